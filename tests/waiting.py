"""Wait for a condition that another thread or process brings about."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
FIRST_PAUSE_S = 0.001
LONGEST_PAUSE_S = 0.05


def wait_for(condition: Callable[[], T], timeout_s: float = 60.0) -> T:
    """Return the first true value of *condition*; fail after *timeout_s* of asking, ever less often."""
    deadline = time.monotonic() + timeout_s
    pause_s = FIRST_PAUSE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"the condition was not met within {timeout_s} s"
        time.sleep(pause_s)
        pause_s = min(1.5 * pause_s, LONGEST_PAUSE_S)
    return value
