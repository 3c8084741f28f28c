"""How methods of fine-tuning differ: in their rows, in their results, and in their passes through the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from registry.contracts.hyperparameters import MethodOptions
from registry.contracts.job_spec import JobSpec
from registry.contracts.pictures.picture_part import PicturePart
from registry.contracts.training_formats import LineFormat, TrainingLine, check_training_lines, read_pictures
from registry.contracts.unfit_rows import UnfitChoice
from registry.states import ResultKind

ROWS_AT_ONCE: Final = 8


class MethodTraits(JobSpec):
    """The answers of most methods; a method overrides those in which it differs."""

    trains_beside: ClassVar[bool] = False
    """Whether the method can train in one process with other jobs, between whose steps it waits."""
    options_as: ClassVar[type[MethodOptions]] = MethodOptions
    """The fields that a caller may give below `method.<type>`: hyperparameters, and whatever else the method needs."""
    multiplied_rate: ClassVar[float] = 1e-3
    """Learning rate of a `learning_rate_multiplier` of 1: LoRA takes some ten times the rate of full fine-tuning."""
    makes: ClassVar[ResultKind] = ResultKind.ADAPTER
    """The kind of thing that the result becomes, where neither all weights are trained nor an adapter is merged."""
    formats: ClassVar[tuple[LineFormat[TrainingLine], ...]] = ()
    """The formats of lines that the method learns from; empty for a method that counts its rows itself."""
    answers_per_row: ClassVar[int] = 1
    """Answers of a row that go through the model."""
    unfit_choices: ClassVar[tuple[UnfitChoice, ...]] = ("drop", "cut")
    """The choices for rows that are too long; `cut` needs an answer whose beginning can be learnt alone."""
    line_marks: ClassVar[Sequence[frozenset[str]]] = (frozenset({"messages"}),)
    """Fields by which a line for this method is recognised in an upload: all of a set, for each form of its rows."""

    @classmethod
    def count_rows(cls, lines: Iterable[bytes], base_folder: Path | None) -> int:
        """Return the number of examples in a file of this method; `TrainingFileInvalid` names line and field.

        *base_folder* is the base model's. None checks an upload, before its base model is known; the
        pictures inside the file are decoded then.
        """
        return check_training_lines(lines, cls.formats, opens_pictures=base_folder is None).rows

    @classmethod
    def pictures_in(cls, lines: Iterable[bytes]) -> Iterator[PicturePart]:
        """Yield the pictures that the rows of a file have."""
        return read_pictures(lines, cls.formats) if cls.formats else iter(())

    def options(self) -> Mapping[str, Any]:
        """Return what OpenAI's object shows below `method.<type>` beside the hyperparameters."""
        return {}

    def rows_at_once(self) -> int:
        """Return the rows that may go through the model at once; a larger batch takes several passes."""
        return ROWS_AT_ONCE

    def passes_without_gradient(self) -> float:
        """Return how many forward passes without a gradient come with every pass of training, as a mean."""
        return 0.0

    def sampled_outputs(self) -> tuple[int, int] | None:
        """Return how many outputs are sampled for a row, and their most tokens; None where rows have answers."""
        return None

    def evaluated_outputs(self) -> int:
        """Return how many outputs are sampled for a validation row, where rows have no answers."""
        return 1

    def packs_rows(self) -> bool | None:
        """Return whether several rows lie in one sequence; None leaves it to the trainer."""
        return None

    def repeats(self) -> int:
        """Return how many steps of the optimizer in a row take the same rows."""
        return 1

    def evaluation_steps(self, epoch_steps: int) -> int:
        """Return the steps between two evaluations: an epoch unless the method has another rule."""
        return epoch_steps

    def has_reference(self) -> bool:
        """Return whether the job needs the base model while it trains, which is its model with the adapter off."""
        return False

    def check_base(self, folder: Path) -> None:
        """Raise `WeightsRefused` if the base model in *folder* cannot be trained as asked; by default each can."""
        return
