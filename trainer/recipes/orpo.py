"""Odds ratio preference optimization (ORPO): learn the preferred answer, and to prefer it by its odds."""

from __future__ import annotations

from typing import Final

import torch

from registry.contracts.methods.orpo_spec import OrpoSpec
from trainer.data.dataset import ChatEncoder
from trainer.data.fitting_rows import row_limits
from trainer.order import ChildOrder
from trainer.progress import RecipeFinished, RecipeStopped, Report, StopAsked
from trainer.recipes import MakeObjective, Recipe
from trainer.training.objective import Batch
from trainer.training.preferences.answers import answer_logprobs
from trainer.training.preferences.figures import ScoredPairs
from trainer.training.preferences.losses import orpo_losses
from trainer.training.preferences.pair_objective import PairObjective
from trainer.training.run import run_training


class OrpoObjective(PairObjective):
    """Mean of `orpo_losses`; a reward is the mean logprob of a token."""

    def __init__(self, encoder: ChatEncoder, spec: OrpoSpec) -> None:
        super().__init__(encoder, row_limits(spec), spec.lora.dropout)
        self._spec = spec

    def score(self, model: torch.nn.Module, batch: Batch) -> ScoredPairs:
        """Return losses and rewards of a batch's pairs."""
        means = answer_logprobs(model, batch, 2 * len(batch["row_ids"])).means
        preferred, rejected = means.view(-1, 2).unbind(1)
        losses = orpo_losses(preferred, rejected, self._spec.beta)
        return ScoredPairs(losses=losses, preferred=preferred, rejected=rejected)


def objective_of(order: ChildOrder[OrpoSpec], report: Report, encoder: ChatEncoder | None = None) -> OrpoObjective:
    """Return the objective of *order*, with an *encoder* for its base model that others use too, if there is one."""
    return OrpoObjective(encoder or ChatEncoder(order.base_path), order.spec)


def train(order: ChildOrder[OrpoSpec], report: Report, stop_asked: StopAsked) -> RecipeFinished | RecipeStopped:
    """Train on the pairs of the order's training file."""
    return run_training(order, objective_of(order, report), report, stop_asked)


OBJECTIVE: Final[MakeObjective] = objective_of
RECIPE: Final[Recipe] = train
