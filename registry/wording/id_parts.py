"""Ids of this registry: a marker of the kind, `ftjob-`, and a random part, of which people type the beginning."""

from __future__ import annotations

from typing import Final

LEAST_TYPED: Final = 4
"""Characters of the random part of an id that must be typed, so that no slip of the hand names anything."""


def random_part(text: str) -> str:
    """Return what follows the last `-` or `_`."""
    return text.replace("_", "-").rpartition("-")[2]


def begins(whole: str, typed: str) -> bool:
    """Whether the id *whole*, or its random part, begins with *typed*."""
    if len(random_part(typed)) < LEAST_TYPED:
        return False
    return whole.startswith(typed) or random_part(whole).startswith(typed)
