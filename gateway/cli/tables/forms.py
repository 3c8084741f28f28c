"""How the values of a column are written: for a narrow terminal, for one that scrolls sideways, and for a program."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

NOTHING: Final = "-"
"""How an absent value is written."""
SHORT_ID: Final = 8
"""Characters of the random part of an id that a terminal shows, more where two ids of a table have them in common."""
SHORT_DIGEST: Final = 12
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_ID: Final = re.compile(r"(?P<marker>.*[-_])?(?P<random>[^-_]*)")


class Reader(StrEnum):
    """Who reads a table, which decides what may be left out and shortened."""

    TERMINAL = "terminal"  # a person at a window of a known width
    WIDE = "wide"  # a person who asked for everything
    PROGRAM = "program"  # a pipe or a file: nothing is left out, shortened or broken into lines


Form = Callable[[Sequence[Any], Reader], list[str]]
"""Writes all values of a column."""


def printable(text: str) -> str:
    """Return *text* with blanks for control characters, which could break lines or steer the terminal."""
    return _CONTROL.sub(" ", text)


def plain(values: Sequence[Any], reader: Reader) -> list[str]:
    """Write values as they are."""
    return [NOTHING if value is None or value == "" else printable(str(value)) for value in values]


def moments(values: Sequence[Any], reader: Reader) -> list[str]:
    """Write unix seconds: how long ago for a terminal, the local time beside it for a wide one, ISO 8601 for others."""
    written: dict[Reader, Callable[[float], str]] = {Reader.TERMINAL: ago, Reader.WIDE: local_and_ago}
    write = written.get(reader, iso_time)
    return [NOTHING if value is None else write(value) for value in values]


def clock_times(values: Sequence[Any], reader: Reader) -> list[str]:
    """Write unix seconds as local time where the order to the second matters, for others than people as ISO 8601."""
    write = iso_time if reader is Reader.PROGRAM else local_time
    return [NOTHING if value is None else write(value) for value in values]


def short_ids(values: Sequence[Any], reader: Reader) -> list[str]:
    """Write ids, for a terminal cut to a beginning that no other id of the column shares."""
    return _shortened(values, reader, SHORT_ID)


def short_digests(values: Sequence[Any], reader: Reader) -> list[str]:
    """Write digests, for a terminal cut to a beginning that no other digest of the column shares."""
    return _shortened(values, reader, SHORT_DIGEST)


def numbers_of_revisions(values: Sequence[Any], reader: Reader) -> list[str]:
    """Write NAME@N of an adapter that the table names elsewhere, for a terminal as `@N`."""
    whole = plain(values, reader)
    return [text[text.rfind("@") :] if reader is Reader.TERMINAL and "@" in text else text for text in whole]


def _shortened(values: Sequence[Any], reader: Reader, length: int) -> list[str]:
    whole = plain(values, reader)
    if reader is not Reader.TERMINAL:
        return whole
    for kept in range(length, max((len(text) for text in whole), default=0) + 1):
        short = [_cut(text, kept) for text in whole]
        if len(set(short)) == len(set(whole)):
            return short
    return whole


def _cut(text: str, length: int) -> str:
    parts = _ID.fullmatch(text)
    return text if parts is None else f"{parts['marker'] or ''}{parts['random'][:length]}"


def length(seconds: float) -> str:
    """Return a length of time in its two largest units: `45 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = int(seconds)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def ago(at: float) -> str:
    """Return how long ago *at* (unix seconds) was, in one unit: `3 h ago`; `in 3 h` for a time to come."""
    passed = time.time() - at
    seconds = int(abs(passed))
    told = f"{seconds} s"
    for unit, size in (("min", 60), ("h", 3600), ("d", 86400)):
        if seconds >= size:
            told = f"{seconds // size} {unit}"
    return f"in {told}" if passed <= -1 else f"{told} ago"


def local_time(at: float) -> str:
    """Return *at* (unix seconds) as the date and the time of this machine."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def local_and_ago(at: float) -> str:
    """Return `2026-03-01 14:05:00 (3 h ago)`."""
    return f"{local_time(at)} ({ago(at)})"


def iso_time(at: float) -> str:
    """Return *at* (unix seconds) in ISO 8601 with the offset of this machine, which has no blank in it."""
    return datetime.fromtimestamp(at).astimezone().isoformat(timespec="seconds")
