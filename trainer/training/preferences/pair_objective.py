"""The parts that the methods which learn from pairs of answers share: rows, batches, divisor and figures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from accelerate.utils import send_to_device

from registry.contracts.preference_lines import PairRow
from registry.contracts.training_formats import PAIRS, LineFormat, TrainingLine, read_lines
from trainer.data.dataset import ChatEncoder
from trainer.data.fitting_rows import FittingRows, RowLimits
from trainer.data.packing import RowCollator
from trainer.training.objective import Batch, Objective
from trainer.training.preferences.answers import Answer, collate_answers
from trainer.training.preferences.figures import PairTally, ScoredPairs


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedPair:
    """A prompt with two answers as tokens."""

    number: int
    """Distinguishes it from every other row of the job."""
    preferred: Answer
    rejected: Answer


class PairObjective(Objective[EncodedPair]):
    """Mean loss of a pair; a method is a subclass that scores the pairs of a pass."""

    formats: ClassVar[tuple[LineFormat[TrainingLine], ...]] = (PAIRS,)

    def __init__(self, encoder: ChatEncoder, limits: RowLimits, dropout: float) -> None:
        super().__init__(encoder, limits)
        self._dropout = dropout
        self._collator = RowCollator(packing=None)
        self._tally = PairTally()
        self._rows = 0

    @abstractmethod
    def score(self, model: torch.nn.Module, batch: Batch) -> ScoredPairs:
        """Return losses and rewards of a batch's pairs."""

    def encode_rows(self, path: Path, param: str, fitting: FittingRows) -> Sequence[EncodedPair]:
        """Return the pairs as tokens; one is left out where one of its answers does not fit."""

        def answers(row: PairRow) -> tuple[Answer, Answer]:
            preferred, rejected = (fitting.fit(answer) for answer in self.encode_answers(row, fitting.longest_labelled))
            return preferred, rejected

        with path.open("rb") as lines:
            kept = fitting.encode(read_lines(lines, (PAIRS,)), answers)
        self._rows += len(kept)
        first = self._rows - len(kept) + 1
        return [
            EncodedPair(number=first + at, preferred=preferred, rejected=rejected)
            for at, (_, (preferred, rejected)) in enumerate(kept)
        ]

    def encode_answers(self, row: PairRow, longest: int | None) -> tuple[Answer, Answer]:
        """Return both answers as tokens; one of more than *longest* tokens has no labels."""
        preferred, rejected = (self.encoder.encode(chat, longest) for chat in row.chats)
        return preferred, rejected

    def prepare(self, model: torch.nn.Module, rows: Sequence[EncodedPair]) -> None:
        """Lay out rows as the model allows: both answers of a pair may share the computation of their prompt."""
        self._collator.fit(model, dropout=self._dropout)

    def collate(self, rows: Sequence[EncodedPair]) -> Batch:
        """Return the batch; answers 2 i and 2 i + 1 are the preferred and the other one of pair i."""
        answers = [answer for row in rows for answer in (row.preferred, row.rejected)]
        return {
            **collate_answers(self._collator, answers),
            "row_ids": torch.tensor([row.number for row in rows]),
        }

    def count_items(self, batches: Sequence[Batch]) -> int:
        """Return the number of pairs."""
        return sum(len(batch["row_ids"]) for batch in batches)

    def loss(self, model: torch.nn.Module, batch: Batch, items: torch.Tensor | int) -> torch.Tensor:
        """Return the sum of the losses of one pass, divided by the pairs of the whole step."""
        scored = self.score(model, batch)
        self._tally.add(scored)
        return scored.losses.sum() / items

    def pop_figures(self) -> Mapping[str, float]:
        """Return rewards, margin and accuracy of the pairs since the last call."""
        tally, self._tally = PairTally(self.processes.summed(self._tally.sums)), PairTally()
        return {f"train_{name}": value for name, value in tally.means().items()}

    def measure(self, model: torch.nn.Module, rows: Sequence[EncodedPair], rows_at_once: int) -> Mapping[str, float]:
        """Return mean loss, rewards, margin and accuracy over *rows*."""
        device = next(model.parameters()).device
        tally = PairTally()
        for batch in self.batches(rows, rows_at_once):
            tally.add(self.score(model, send_to_device(batch, device)))
        return {"loss": tally.loss, **tally.means()}
