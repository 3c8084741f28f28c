"""Grader runs of a server: a few at a time, in threads of their own, so that nobody else waits for a slow grader."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from graders.errors import TooManyRuns

T = TypeVar("T")

AT_ONCE: Final = 2
MOST_WAITING: Final = 16


class GraderRuns:
    """Runs calls that may block for long."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="grader")
        self._accepted = 0

    async def run(self, call: Callable[[], T]) -> T:
        """Return the result of *call*; raises `TooManyRuns` while too many others wait."""
        if self._accepted >= AT_ONCE + MOST_WAITING:
            raise TooManyRuns(f"{self._accepted} runs of graders wait here already; try again later")
        self._accepted += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        finally:
            self._accepted -= 1
