"""A reward model: an adapter and a score head that give the preferred one of two answers the higher score."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from peft import PeftModel

from registry.contracts.methods.reward_spec import RewardSpec
from registry.contracts.preference_lines import PairRow
from trainer.data.dataset import ChatEncoder
from trainer.data.fitting_rows import row_limits
from trainer.data.packing import model_inputs
from trainer.order import ChildOrder
from trainer.progress import RecipeFinished, RecipeStopped, Report, StopAsked
from trainer.recipes import Recipe
from trainer.training.objective import Batch
from trainer.training.preferences.answers import Answer, sum_by_answer
from trainer.training.preferences.figures import ScoredPairs
from trainer.training.preferences.losses import reward_losses
from trainer.training.preferences.pair_objective import PairObjective
from trainer.training.reward_model import encode_scored, load_head, read_scores, replace_head, save_head
from trainer.training.run import run_training


class RewardObjective(PairObjective):
    """Mean of `reward_losses`; a reward is the score."""

    def __init__(self, encoder: ChatEncoder, spec: RewardSpec) -> None:
        super().__init__(encoder, row_limits(spec), spec.lora.dropout)
        self._spec = spec

    def encode_answers(self, row: PairRow, longest: int | None) -> tuple[Answer, Answer]:
        """Return both chats up to the end of their last answer."""
        preferred, rejected = ([encode_scored(self.encoder, chat, longest)] for chat in row.chats)
        return preferred, rejected

    def attach(self, model: PeftModel) -> None:
        """Give the model a score head."""
        self._head = replace_head(model)

    def score(self, model: torch.nn.Module, batch: Batch) -> ScoredPairs:
        """Return losses and scores of a batch's pairs."""
        logits = model(**model_inputs(batch)).logits
        scores = sum_by_answer(read_scores(logits, batch), batch, 2 * len(batch["row_ids"]))
        preferred, rejected = scores.view(-1, 2).unbind(1)
        return ScoredPairs(losses=reward_losses(preferred, rejected), preferred=preferred, rejected=rejected)

    def save_state(self, folder: Path) -> None:
        """Write the score head, which the Trainer does not write."""
        weight = self.processes.whole_weight(self._head.weight)
        if self.processes.is_first:
            save_head(weight, folder)

    def load_state(self, folder: Path) -> None:
        """Read the score head."""
        load_head(self._head, folder)

    def load_result(self, folder: Path) -> None:
        """Read the score head of a step."""
        load_head(self._head, folder)

    def save_result(self, folder: Path) -> None:
        """Write the score head beside the adapter."""
        save_head(self._head.weight, folder)


def train(order: ChildOrder[RewardSpec], report: Report, stop_asked: StopAsked) -> RecipeFinished | RecipeStopped:
    """Train on the pairs of the order's training file."""
    return run_training(order, RewardObjective(ChatEncoder(order.base_path), order.spec), report, stop_asked)


RECIPE: Final[Recipe] = train
