"""The C library's memory in a process of many threads that each ask the database now and then."""

from __future__ import annotations

import contextlib
import ctypes
from typing import Final

_M_ARENA_MAX: Final = -8
"""`M_ARENA_MAX` of glibc's malloc.h."""
_ARENAS: Final = 2


def share_arenas() -> None:
    """Have the threads that are still to come share two arenas, as the variable `MALLOC_ARENA_MAX=2` does.

    By default each of a gateway's threads gets an arena of its own, up to eight for each processor, and each keeps the
    memory of the largest reading that it ever did. C libraries other than glibc have no such call and need none.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)
