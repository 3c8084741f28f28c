"""The choice of a file's rows that fit a job, and the count of those that are left out or cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.unfit_rows import (
    LISTED_LINES,
    NOTHING_LEARNT,
    ROW_TOO_LONG,
    UnfitChoice,
    UnfitReason,
    UnfitRows,
)
from trainer.data.encoded_row import IGNORED, EncodedRow
from trainer.errors import RowUnfit


class _HasLine(Protocol):
    @property
    def line(self) -> int: ...


Line = TypeVar("Line", bound=_HasLine)
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowLimits:
    """The limits for a row of a job."""

    max_length: int
    """Most tokens."""
    unfit_rows: UnfitChoice = "drop"


def row_limits(spec: FineTuneSpec) -> RowLimits:
    """Return what a row of the job may be."""
    return RowLimits(max_length=spec.max_length, unfit_rows=spec.unfit_rows)


@dataclass(slots=True)
class _Count:
    rows: int = 0
    lines: list[int] = field(default_factory=list)
    longest: int | None = None
    example: str = ""


class FittingRows:
    """Encodes the rows of one file, and counts those that do not fit."""

    def __init__(self, limits: RowLimits) -> None:
        self._limits = limits
        self._rows = 0
        self._counts: dict[tuple[str, bool], _Count] = {}
        self._cut: RowUnfit | None = None
        """Why the row that is being encoded was cut."""

    @property
    def longest_labelled(self) -> int | None:
        """Tokens of a row up to which its learnt ones are needed; None where longer rows are cut."""
        return None if self._limits.unfit_rows == "cut" else self._limits.max_length

    def encode(self, lines: Iterable[Line], encode: Callable[[Line], Row]) -> list[tuple[Line, Row]]:
        """Return what *encode* makes of each line; one for which it raises `RowUnfit` is counted and left out."""
        kept = []
        for line in lines:
            self._rows += 1
            self._cut = None
            try:
                row = encode(line)
            except RowUnfit as exc:
                self._count(line.line, exc, is_cut=False)
                continue
            if self._cut is not None:
                self._count(line.line, self._cut, is_cut=True)
            kept.append((line, row))
        return kept

    def fit(self, rows: Sequence[EncodedRow]) -> list[EncodedRow]:
        """Return the rows of a line as they fit: whole, or cut where the job cuts; `RowUnfit` if nothing is left."""
        most = self._limits.max_length
        longest = max(len(row.input_ids) for row in rows)
        if longest <= most:
            return [*rows]
        why = f"line {rows[0].line}: {longest} tokens, more than max_length {most}"
        too_long = RowUnfit(ROW_TOO_LONG, why, longest)
        # A picture's tokens stand for its pixels, so a row with pictures has no beginning that could be kept.
        if self._limits.unfit_rows == "drop" or any(row.pictures for row in rows):
            raise too_long
        cut = [replace(row, input_ids=row.input_ids[:most], labels=row.labels[:most]) for row in rows]
        learnt = [row for row in cut if any(label != IGNORED for label in row.labels)]
        if not learnt:
            raise RowUnfit(NOTHING_LEARNT, f"{why}, and its first {most} have no learnt one", longest)
        self._cut = too_long
        return learnt

    def unfit(self) -> UnfitRows:
        """Return the counts over the rows so far."""
        reasons = [
            UnfitReason(
                reason=reason,
                is_cut=is_cut,
                rows=count.rows,
                lines=tuple(count.lines),
                longest=count.longest,
                example=count.example,
            )
            for (reason, is_cut), count in self._counts.items()
        ]
        cut = sum(reason.rows for reason in reasons if reason.is_cut)
        total = sum(reason.rows for reason in reasons)
        return UnfitRows(rows=self._rows, dropped=total - cut, cut=cut, reasons=tuple(reasons))

    def _count(self, line: int, why: RowUnfit, *, is_cut: bool) -> None:
        count = self._counts.setdefault((why.code, is_cut), _Count(example=why.message))
        count.rows += 1
        if len(count.lines) < LISTED_LINES:
            count.lines.append(line)
        if why.tokens is not None:
            count.longest = max(why.tokens, count.longest or 0)
