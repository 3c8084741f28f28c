"""The machine of this process, read once and when it is first asked for: vendors' tools take a while."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from engines.hardware.machine import Machine


class OwnMachine:
    """Reads the machine at the first question; it does not change under a process."""

    def __init__(self, read: Callable[[], Machine]) -> None:
        self._read = read
        self._lock = Lock()
        self._found: Machine | None = None

    def get(self) -> Machine:
        """Return the machine; blocks while it is read."""
        with self._lock:
            if self._found is None:
                self._found = self._read()
            return self._found
