"""Times that are estimated, in as many words as they are sure. Pure."""

from __future__ import annotations

from typing import Final

_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_ROUGH_S: Final = 10
"""Estimates are rounded to as many seconds, since a step more or less changes them by some."""


def rough_time(seconds: float) -> str:
    """Return *seconds* as people give an estimate: `some seconds`, `about 40 s`, `about 11 min`, `about 2.5 h`."""
    if seconds < _ROUGH_S:
        return "some seconds"
    if seconds < _MINUTE_S:
        return f"about {round(seconds / _ROUGH_S) * _ROUGH_S} s"
    return f"about {round(seconds / _MINUTE_S)} min" if seconds < 2 * _HOUR_S else f"about {seconds / _HOUR_S:.1f} h"
