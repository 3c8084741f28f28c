"""Where gateway, engine replicas, controller and host write their logs."""

from __future__ import annotations

import itertools
import logging
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from registry.json_lines import JsonLines

_LARGEST_BYTES: Final = 10 << 20
_KEPT: Final = 3
_OURS: Final = ("gateway", "engines", "registry")
_OTHERS: Final = ("asyncio", "uvicorn.error")
"""Loggers of libraries that report what our code raised in a callback or a handler."""


class LogFile(RotatingFileHandler):
    """A log that this process alone writes and rotates, 10 MB a file, three files back.

    The first process of a role on a machine has `ROLE.log`, the next one beside it `ROLE-2.log`, and so on. A process
    that takes the place of another one goes on in its file, so that no start adds one.
    """

    def __init__(self, folder: Path, role: str, *, largest_bytes: int = _LARGEST_BYTES) -> None:
        """Open the first log of *role* in *folder* that no live process has. Raises `OSError`."""
        folder.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            name = role if number == 1 else f"{role}-{number}"
            # The lock is held until this process ends, however it ends.
            self._held = FileLock(folder / f".{name}.lock")
            try:
                self._held.acquire(timeout=0)
            except Timeout:
                continue
            break
        super().__init__(folder / f"{name}.log", maxBytes=largest_bytes, backupCount=_KEPT)
        self.setFormatter(JsonLines())

    def close(self) -> None:
        """Close the file, and let another process have it."""
        super().close()
        self._held.release()


def log_to(home: Path, role: str) -> None:
    """Log what our packages do to a file of *role* in `logs` below *home* from now on; to stderr if that cannot be."""
    handler: logging.Handler
    try:
        handler = LogFile(home / "logs", role)
    # A full disk must not keep a process from its work: what it does is more than its log.
    except OSError as exc:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonLines())
        logging.getLogger(__name__).error("no log file, logging to stderr", extra={"error": str(exc)})
    for package in _OURS:
        logger = logging.getLogger(package)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    for library in _OTHERS:
        logging.getLogger(library).addHandler(handler)
