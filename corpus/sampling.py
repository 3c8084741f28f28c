"""The rows that a person is asked to read before training."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

MOST_ROWS: Final = 500
"""More than a person reads with care; holds beyond half a million rows too, where it is less than one in a thousand."""


def sample_size(rows: int) -> int:
    """Return how many of *rows* are read: 5 %, at least one in a thousand, at most 500."""
    wanted = max(-(-rows * 5 // 100), -(-rows // 1000), 1)
    return min(wanted, MOST_ROWS, rows)


def drawn(lines: Sequence[int], seed: int) -> list[int]:
    """Return the drawn ones of *lines* in their order; the same *seed* draws the same ones."""
    chosen = random.Random(seed).sample(range(len(lines)), sample_size(len(lines)))  # noqa: S311 - no secret
    return [lines[at] for at in sorted(chosen)]


def seed_of(sha256: str) -> int:
    """Return the seed for a file whose reviewer gave none: it follows from its bytes."""
    return int(sha256[:8], 16)
