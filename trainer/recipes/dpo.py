"""Direct preference optimization (DPO, IPO): move the log ratios of two answers to the reference apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from registry.contracts.methods.dpo_spec import DpoSpec
from trainer.data.dataset import ChatEncoder
from trainer.data.fitting_rows import row_limits
from trainer.order import ChildOrder
from trainer.progress import RecipeFinished, RecipeStopped, Report, StopAsked
from trainer.recipes import MakeObjective, Recipe
from trainer.training.objective import Batch
from trainer.training.preferences.answers import answer_logprobs
from trainer.training.preferences.figures import ScoredPairs
from trainer.training.preferences.losses import PairRatios, dpo_losses, ipo_losses
from trainer.training.preferences.pair_objective import EncodedPair, PairObjective
from trainer.training.preferences.reference import Reference
from trainer.training.run import run_training


class DpoObjective(PairObjective):
    """Mean of `dpo_losses` or `ipo_losses`; a reward is beta times the log ratio to the reference."""

    def __init__(self, encoder: ChatEncoder, spec: DpoSpec) -> None:
        super().__init__(encoder, row_limits(spec), spec.lora.dropout)
        self._spec = spec
        self._reference = Reference(answers_per_row=2)

    def prepare(self, model: PreTrainedModel | PeftModel, rows: Sequence[EncodedPair]) -> None:
        """Take the untrained model as the reference."""
        super().prepare(model, rows)
        batches = self.batches(rows, self._spec.rows_at_once())
        self._reference.prepare(model, self._spec, batches, self.processes)

    def begin_step(self, model: torch.nn.Module, batches: Sequence[Batch]) -> None:
        """Have the logprobs of the reference for all rows of the step."""
        self._reference.begin_step(model, batches, self.processes)

    def score(self, model: torch.nn.Module, batch: Batch) -> ScoredPairs:
        """Return losses and rewards of a batch's pairs."""
        reference = self._reference.logprobs(model, batch)
        policy = answer_logprobs(model, batch, len(reference))
        preferred, rejected = (policy.sums - reference).view(-1, 2).unbind(1)
        ratios = PairRatios(preferred=preferred, rejected=rejected)
        if self._spec.loss_type == "ipo":
            lengths = policy.lengths.view(-1, 2)
            losses = ipo_losses(ratios, (lengths[:, 0], lengths[:, 1]), self._spec.beta)
        else:
            losses = dpo_losses(ratios, self._spec.beta, self._spec.label_smoothing)
        return ScoredPairs(losses=losses, preferred=self._spec.beta * preferred, rejected=self._spec.beta * rejected)

    def save_state(self, folder: Path) -> None:
        """Write the logprobs of the reference."""
        if self.processes.is_first:
            self._reference.save(folder)

    def load_state(self, folder: Path) -> None:
        """Read the logprobs of the reference."""
        self._reference.load(folder)


def objective_of(order: ChildOrder[DpoSpec], report: Report, encoder: ChatEncoder | None = None) -> DpoObjective:
    """Return the objective of *order*, with an *encoder* for its base model that others use too, if there is one."""
    return DpoObjective(encoder or ChatEncoder(order.base_path), order.spec)


def train(order: ChildOrder[DpoSpec], report: Report, stop_asked: StopAsked) -> RecipeFinished | RecipeStopped:
    """Train on the pairs of the order's training file."""
    return run_training(order, objective_of(order, report), report, stop_asked)


OBJECTIVE: Final[MakeObjective] = objective_of
RECIPE: Final[Recipe] = train
