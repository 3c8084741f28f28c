"""The rows of a training file that do not fit a job: left out or cut, counted by reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

LISTED_LINES: Final = 1000
"""Lines that are listed of a reason; the count has them all."""
SHOWN_LINES: Final = 5
"""Lines that a sentence names."""
MOST_UNFIT_ROWS: Final = 0.01
"""Part of a file's rows that may not fit a job that does not name another one."""
UnfitChoice = Literal["drop", "cut"]
"""The choice for a row that is too long: to leave out the row, or its end."""
ROW_TOO_LONG: Final = "row_too_long"
NOTHING_LEARNT: Final = "nothing_learnt"
_SAID: Final = {
    ROW_TOO_LONG: "longer than max_length",
    NOTHING_LEARNT: "without a learnt token within max_length",
    "template_refused": "refused by the base model's chat template",
    "template_not_trainable": "not trainable by the base model's chat template",
}


class UnfitReason(BaseModel):
    """Rows that do not fit for one reason."""

    model_config = ConfigDict(frozen=True)

    reason: str
    """`row_too_long`, `nothing_learnt`, `template_refused` or `template_not_trainable`."""
    is_cut: bool
    """Whether the rows lost their ends and are trained on; others are left out."""
    rows: int
    lines: tuple[int, ...]
    """Lines of the first of them."""
    longest: int | None = None
    """Tokens of the longest of them, where they are too long."""
    example: str
    """The fault of the first of them."""

    def sentence(self) -> str:
        """Return how many rows, why, and which lines, for people."""
        longest = "" if self.longest is None else f", the longest has {self.longest} tokens"
        listed = ", ".join(map(str, self.lines[:SHOWN_LINES])) + (", ..." if self.rows > SHOWN_LINES else "")
        lines = "line" if self.rows == 1 else "lines"
        return f"{self.rows} {_SAID.get(self.reason, self.reason)} ({lines} {listed}{longest})"


class UnfitRows(BaseModel):
    """The rows of one file that do not fit the job."""

    model_config = ConfigDict(frozen=True)

    rows: int
    """Rows that the file has."""
    dropped: int
    cut: int
    reasons: tuple[UnfitReason, ...]

    def exceeds(self, most: float) -> bool:
        """Return whether more than the part *most* of the rows does not fit, or no row is left."""
        return self.dropped + self.cut > most * self.rows + 1e-9 or self.dropped == self.rows

    def sentence(self, field: str) -> str:
        """Return what happened to the rows of the file that *field* of a job names."""
        done = [f"{self.dropped} left out"] if self.dropped else []
        done += [f"{self.cut} cut"] if self.cut else []
        why = "; ".join(reason.sentence() for reason in self.reasons)
        return f"{field}: of {self.rows} rows {' and '.join(done)}: {why}"

    def refusal(self, field: str, most: float, choices: Sequence[UnfitChoice]) -> str:
        """Return why a job cannot be trained on the file, with the settings with which it could."""
        why = "; ".join(reason.sentence() for reason in self.reasons)
        counted = f"{self.reasons[0].example} (of {self.rows} rows of {field} these do not fit: {why})"
        return "; ".join([counted, *self._remedies(most, choices)])

    def _remedies(self, most: float, choices: Sequence[UnfitChoice]) -> list[str]:
        longest = max((reason.longest for reason in self.reasons if reason.longest), default=None)
        ways = [] if longest is None else [f"shorten such rows, or raise max_length to {longest}"]
        if self.dropped < self.rows:
            enough = math.ceil(1000 * (self.dropped + self.cut) / self.rows) / 1000
            ways.append(f"most_unfit_rows {enough:g} in place of {most:g} trains without them")
        if self.dropped and longest is not None and "cut" in choices:
            ways.append("unfit_rows cut keeps the beginnings of long ones")
        return ways
