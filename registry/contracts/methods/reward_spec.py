"""A reward model: learn a score of answers from pairs, for methods that learn from scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.preference_lines import PAIR_FIELDS
from registry.contracts.training_formats import PAIRS, LineFormat, TrainingLine
from registry.contracts.unfit_rows import UnfitChoice
from registry.states import ResultKind


class RewardSpec(FineTuneSpec):
    """A job that trains an adapter with a score head on pairs."""

    recipe: ClassVar[str] = "reward"
    makes: ClassVar[ResultKind] = ResultKind.REWARD
    formats: ClassVar[tuple[LineFormat[TrainingLine], ...]] = (PAIRS,)
    answers_per_row: ClassVar[int] = 2
    unfit_choices: ClassVar[tuple[UnfitChoice, ...]] = ("drop",)
    line_marks: ClassVar[Sequence[frozenset[str]]] = (frozenset(PAIR_FIELDS),)
    multiplied_rate: ClassVar[float] = 1e-4

    method: Literal["reward"] = "reward"

    def rows_at_once(self) -> int:
        """Return the pairs whose answers go through the model at once."""
        return super().rows_at_once() // 2
