"""Which rows of a calibration file scales are computed from, and which the result is scored on. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from registry.errors import NotQuantizable

USUAL_SAMPLES: Final = 128
FEWEST_SAMPLES: Final = 8
MOST_SCORED: Final = 32
FEWEST_SCORED: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsUsed:
    """Numbers of rows, from 0, in the order in which they are used; no row is in both."""

    calibration: tuple[int, ...]
    scored: tuple[int, ...]


def samples_for(rows: int, asked: int | None) -> int:
    """Return how many of *rows* calibrate: as many as *asked*, else 128 or what there is beside the scored rows.

    Raises `NotQuantizable` with the numbers for a file that has too few.
    """
    scored = scored_rows(rows)
    left = rows - scored
    if asked is None:
        asked = max(FEWEST_SAMPLES, min(USUAL_SAMPLES, left))
    if asked > left:
        raise NotQuantizable(
            f"calibration_file: the file has {rows} rows, of which {scored} are kept to score the result, so "
            f"{max(left, 0)} are left for {asked} samples; give a longer file, or fewer samples"
        )
    return asked


def scored_rows(rows: int) -> int:
    """Return how many rows are kept for the scores: a fifth, at least 2 and at most 32."""
    return max(FEWEST_SCORED, min(MOST_SCORED, rows // 5))


def rows_used(rows: int, samples: int, seed: int) -> RowsUsed:
    """Draw the rows by *seed*."""
    order = list(range(rows))
    Random(seed).shuffle(order)  # noqa: S311  a draw that is to be repeated, not a secret
    scored = scored_rows(rows)
    return RowsUsed(calibration=tuple(order[scored : scored + samples]), scored=tuple(order[:scored]))
