"""Simple preference optimization (SimPO): a margin between the mean logprobs of two answers."""

from __future__ import annotations

from typing import Final

import torch

from registry.contracts.methods.simpo_spec import SimpoSpec
from trainer.data.dataset import ChatEncoder
from trainer.data.fitting_rows import row_limits
from trainer.order import ChildOrder
from trainer.progress import RecipeFinished, RecipeStopped, Report, StopAsked
from trainer.recipes import MakeObjective, Recipe
from trainer.training.objective import Batch
from trainer.training.preferences.answers import answer_logprobs
from trainer.training.preferences.figures import ScoredPairs
from trainer.training.preferences.losses import simpo_losses
from trainer.training.preferences.pair_objective import PairObjective
from trainer.training.run import run_training


class SimpoObjective(PairObjective):
    """Mean of `simpo_losses`; a reward is beta times the mean logprob of a token."""

    def __init__(self, encoder: ChatEncoder, spec: SimpoSpec) -> None:
        super().__init__(encoder, row_limits(spec), spec.lora.dropout)
        self._spec = spec

    def score(self, model: torch.nn.Module, batch: Batch) -> ScoredPairs:
        """Return losses and rewards of a batch's pairs."""
        means = answer_logprobs(model, batch, 2 * len(batch["row_ids"])).means
        preferred, rejected = means.view(-1, 2).unbind(1)
        losses = simpo_losses(preferred, rejected, self._spec.beta, self._spec.gamma)
        return ScoredPairs(losses=losses, preferred=self._spec.beta * preferred, rejected=self._spec.beta * rejected)


def objective_of(order: ChildOrder[SimpoSpec], report: Report, encoder: ChatEncoder | None = None) -> SimpoObjective:
    """Return the objective of *order*, with an *encoder* for its base model that others use too, if there is one."""
    return SimpoObjective(encoder or ChatEncoder(order.base_path), order.spec)


def train(order: ChildOrder[SimpoSpec], report: Report, stop_asked: StopAsked) -> RecipeFinished | RecipeStopped:
    """Train on the pairs of the order's training file."""
    return run_training(order, objective_of(order, report), report, stop_asked)


OBJECTIVE: Final[MakeObjective] = objective_of
RECIPE: Final[Recipe] = train
