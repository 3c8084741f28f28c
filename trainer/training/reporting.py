"""Reports of a run while it trains: steps, validation, sealed checkpoints, and the stop that was asked for."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from registry.contracts.fine_tune_spec import FineTuneSpec
from trainer.checkpoints import Checkpoint, prune_checkpoints, seal_checkpoint
from trainer.errors import Diverged
from trainer.order import ChildOrder, spec_identity
from trainer.progress import CheckpointSaved, Noted, Report, Stepped, StopAsked
from trainer.training.evaluating import evaluating
from trainer.training.objective import Objective
from trainer.training.steps.kept_steps import KeptSteps
from trainer.training.steps.step_choice import StepRules
from trainer.training.steps.step_folders import may_be_written_while_training, write_while_training
from trainer.training.together.processes import Processes
from trainer.training.together.sharing import save_whole

VALIDATED_BATCHES: Final = 10
"""Batches of the validation file that are measured during a run, one after another, beside those at checkpoints."""


class RunReporter(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    """Callback of one run; evaluates when the spec wants it and seals every checkpoint that the Trainer writes."""

    def __init__(
        self,
        order: ChildOrder[FineTuneSpec],
        report: Report,
        stop_asked: StopAsked,
        objective: Objective[Any],
        processes: Processes,
    ) -> None:
        self._processes = processes
        self._order = order
        self._report = report
        self._stop_asked = stop_asked
        self._objective = objective
        self._valid: Sequence[Any] = ()
        self.kept = KeptSteps(order.attempt_folder)
        self._metrics: dict[str, Any] = {}
        self._validation: dict[str, Any] = {}
        self._batch_validation: dict[str, float] = {}
        self._began = (0.0, 0)

    def continue_from(self, start: Checkpoint) -> None:
        """Go on with the objective's state and the kept steps of a checkpoint; every process of the run calls it."""
        self._report(Noted(message=f"Continuing from the checkpoint of step {start.step}", data={"step": start.step}))
        self._objective.load_state(start.folder)
        self.kept.load(start.folder, is_first=self._processes.is_first)
        self._processes.wait_for_all()

    def validate_on(self, rows: Sequence[Any]) -> None:
        """Measure the loss on *rows*: on a batch of them again and again, on all at checkpoints and evaluations."""
        self._valid = rows

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start to measure the speed of this attempt."""
        self._began = (time.monotonic(), state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **facts: Any) -> None:
        """Validate and choose where the spec asks for it; when asked to stop, save a checkpoint and stop."""
        step = int(state.global_step)
        rules = StepRules(self._order.spec, math.ceil(state.max_steps / args.num_train_epochs), state.max_steps)
        if rules.saves(step):
            control.should_save = True
        # The Trainer calls on_step_end, on_log, on_save: a checkpoint has the validation of its own step, or none.
        self._validation, self._batch_validation = {}, {}
        if self._valid:
            self._validate(facts["model"], args, state, is_whole=rules.validates(step), is_saved=control.should_save)
        if self._validation and rules.validates(step):
            self._choose(step, self._validation["full_valid_loss"], state.max_steps)
        if rules.serves(step) or (self.kept.choice.is_over and self._order.spec.serves_steps()):
            self.kept.choice = self.kept.choice.serving(step)
        if self._stop_asked() or self.kept.choice.is_over:
            control.should_save = control.should_training_stop = True

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **facts: Any) -> None:
        """Report the step. Raises `Diverged` when its loss is not finite."""
        figures = facts["logs"]
        if "loss" not in figures:  # the summary at the end
            return
        if not math.isfinite(figures["loss"]):
            raise Diverged(f"the loss is {figures['loss']} at step {state.global_step}")
        stepped = Stepped(
            step=state.global_step,
            total_steps=state.max_steps,
            train_loss=figures["loss"],
            learning_rate=figures["learning_rate"],
            tokens=int(state.num_input_tokens_seen),
            eta_s=self._eta_s(state),
            figures={**self._objective.pop_figures(), **self._batch_validation},
        )
        self._metrics = {"step": stepped.step, "train_loss": stepped.train_loss, **stepped.figures}
        self._report(stepped)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **facts: Any) -> None:
        """Seal the checkpoint that the Trainer has just written, and only then remove old ones."""
        folder = self._order.attempt_folder / f"checkpoint-{state.global_step}"
        metrics = self._metrics | self._validation
        save_whole(folder, self._order, facts["model"], self._processes)
        self._objective.save_state(folder)
        # Every process writes its random states; only then the checkpoint is whole.
        self._processes.wait_for_all()
        if not self._processes.is_first:
            return
        self.kept.save(folder, int(state.global_step))
        seal_checkpoint(folder, spec_identity(self._order.spec), state.global_step, metrics)
        prune_checkpoints(self._order.attempt_folder, self._order.keep_checkpoints)
        self._report(CheckpointSaved(step=state.global_step, metrics=metrics))
        step, spec = int(state.global_step), self._order.spec
        is_early = step in self.kept.choice.served and step < state.max_steps
        if is_early and may_be_written_while_training(spec):
            write_while_training(self._order, facts["model"], self._objective, self._report, self.kept, step)

    def _choose(self, step: int, loss: float, max_steps: int) -> None:
        """Remember the best step; report the end of a run that stops early."""
        spec = self._order.spec
        if spec.keep != "best" and spec.early_stopping_patience is None:
            return
        choice = self.kept.choice = self.kept.choice.judged(step, loss, spec.early_stopping_patience)
        if choice.is_over and step < max_steps:
            message = (
                f"Stopped early at step {step} of {max_steps}: {choice.worse} validations in a row without a lower "
                f"loss than {choice.best_loss:.4f} at step {choice.best_step}"
            )
            self._report(Noted(message=message, data={"step": step, "best_step": choice.best_step}))

    def _validate(
        self, model: torch.nn.Module, args: TrainingArguments, state: TrainerState, *, is_whole: bool, is_saved: bool
    ) -> None:
        """Measure a batch of the validation rows, all of them, or nothing, as the step wants it."""
        step, at_once = int(state.global_step), int(args.per_device_train_batch_size)
        is_cheap = self._objective.is_cheap_to_measure
        is_whole = is_whole or (is_saved and is_cheap)
        if is_cheap and (is_whole or step % math.ceil(state.max_steps / VALIDATED_BATCHES) == 0):
            # By the step alone, so that a run that was continued, or has other processes, measures the same rows.
            count = at_once * self._processes.size
            first = step * count % len(self._valid)
            rows = [*self._valid[first:], *self._valid[:first]][:count]
            measured = self._measure(model, rows, at_once)
            self._batch_validation = {f"valid_{name}": value for name, value in measured.items()}
        if is_whole:
            measured = self._measure(model, self._valid, at_once)
            # No loss is lower than one that is no number, so such a step would be chosen, or end the run.
            if not math.isfinite(measured["loss"]):
                raise Diverged(f"the validation loss is {measured['loss']} at step {step}")
            self._validation = {f"full_valid_{name}": value for name, value in measured.items()}
            message = f"Validation loss {measured['loss']:.4f} at step {step}"
            self._report(Noted(message=message, data={"step": step, **self._validation}))

    def _measure(self, model: torch.nn.Module, rows: Sequence[Any], rows_at_once: int) -> Mapping[str, float]:
        with evaluating(model):
            return self._objective.measure(model, rows, rows_at_once)

    def _eta_s(self, state: TrainerState) -> float:
        at, step = self._began
        steps_done, remaining = int(state.global_step) - step, int(state.max_steps) - int(state.global_step)
        return (time.monotonic() - at) / max(1, steps_done) * remaining
