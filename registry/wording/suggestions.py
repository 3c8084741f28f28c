"""The name that was probably meant by one that does not exist."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_CLOSE: Final = 0.65
"""Least share of equal characters; below it the suggestions are guesses."""
_MOST_NAMES: Final = 500
"""Names that are compared: of thousands it takes tenths of a second, in which a gateway answers nobody else."""
_LONGEST_NAME: Final = 128
_FEW: Final = 12
"""So many names a message may list."""


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of *names* that is most like *name*; None if none is like it."""
    from difflib import get_close_matches  # 5 ms that a command without a mistake does not need

    lowered = {each.lower()[:_LONGEST_NAME]: each for _, each in zip(range(_MOST_NAMES), names, strict=False)}
    asked = name.lower()[:_LONGEST_NAME]
    found = get_close_matches(asked, lowered, n=1, cutoff=_CLOSE)
    # Two letters of a short name that changed places make it less alike than the cutoff asks for.
    found = found or [each for each in lowered if sorted(each) == sorted(asked)]
    return lowered[found[0]] if found else None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return `; did you mean 'support'?`, or nothing if none of *names* is like *name*."""
    meant = nearest(name, names)
    return "" if meant is None else f"; did you mean {meant!r}?"


def meant_or_known(name: str, names: Iterable[str]) -> str:
    """Return `; did you mean 'support'?`, or the names that there are, of many the first few."""
    known = list(names)
    meant = did_you_mean(name, known)
    if meant or not known:
        return meant or "; there are none"
    more = f" and {len(known) - _FEW} more" if len(known) > _FEW else ""
    return f"; there are: {', '.join(known[:_FEW])}{more}"
