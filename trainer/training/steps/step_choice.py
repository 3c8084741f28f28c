"""Which steps of a run are kept to be served, which one is the best, and whether the run stops early. Pure."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict

from registry.contracts.fine_tune_spec import FineTuneSpec

SERVED_STEPS: Final = 3
"""How many steps of a job are served, the last ones, as OpenAI keeps the checkpoints of the last three epochs."""


class StepChoice(BaseModel):
    """The choice so far; every checkpoint holds it, so that a continued run chooses the same."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    best_step: int | None = None
    best_loss: float | None = None
    worse: int = 0
    """Validations in a row without a lower loss than the best."""
    is_over: bool = False
    """Whether the run ends at this step although steps remain."""
    last_step: int | None = None
    """The step at which it is over."""
    served: tuple[int, ...] = ()
    """The last steps that may be served, oldest first."""

    def judged(self, step: int, loss: float, patience: int | None) -> StepChoice:
        """Return the choice after a validation; a run with *patience* is over after so many without a lower loss."""
        if self.best_loss is None or loss < self.best_loss:
            return self.model_copy(update={"best_step": step, "best_loss": loss, "worse": 0})
        worse, is_over = self.worse + 1, patience is not None and self.worse + 1 >= patience
        return self.model_copy(update={"worse": worse, "is_over": is_over, "last_step": step if is_over else None})

    def serving(self, step: int) -> StepChoice:
        """Return the choice with one more step to serve, in place of the oldest."""
        return self.model_copy(update={"served": (*self.served, step)[-SERVED_STEPS:]})

    @property
    def kept(self) -> set[int]:
        """Return the steps whose weights are needed at the end."""
        return {step for step in (*self.served, self.best_step, self.last_step) if step is not None}

    def result_step(self, spec: FineTuneSpec, last: int) -> int:
        """Return the step whose weights are the result of a run that ended with the step *last*."""
        return self.best_step if spec.keep == "best" and self.best_step is not None else last


class StepRules:
    """The wishes of a spec for each step."""

    def __init__(self, spec: FineTuneSpec, epoch_steps: int, max_steps: int) -> None:
        self._spec = spec
        self._epoch_steps = epoch_steps
        self._max_steps = max_steps
        self._selects = spec.keep == "best" or spec.early_stopping_patience is not None

    def ends_epoch(self, step: int) -> bool:
        """Whether an epoch ends with the step."""
        return step % self._epoch_steps == 0 or step == self._max_steps

    def validates(self, step: int) -> bool:
        """Whether the validation rows are measured: when the method asks for it, and at checkpoints if they decide."""
        decides = self._selects and (step % self._spec.checkpoint_steps == 0 or self.ends_epoch(step))
        return decides or step % self._spec.evaluation_steps(self._epoch_steps) == 0

    def serves(self, step: int) -> bool:
        """Whether the step may be served once the job has succeeded."""
        if not self._spec.serves_steps():
            return False
        at_checkpoint = self._spec.serve_checkpoints == "steps" and step % self._spec.checkpoint_steps == 0
        # Without early stopping the last step is known, and no step is kept that would be dropped again.
        is_late = self._selects or step > self._max_steps - SERVED_STEPS * self._epoch_steps
        return at_checkpoint or (self.ends_epoch(step) and is_late)

    def saves(self, step: int) -> bool:
        """Whether the step needs a checkpoint of its own, so that its weights can be published."""
        return self.validates(step) if self._selects else self.serves(step)
