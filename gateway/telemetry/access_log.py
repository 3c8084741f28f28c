"""The access log: one line of JSON for each inference request, without any text of prompt or answer."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import orjson
from filelock import FileLock, Timeout

from gateway.telemetry.finished import Finished, unix_of

log = logging.getLogger(__name__)

_WRITE_EVERY_S: Final = 1.0
_MOST_WAITING: Final = 100_000
_LARGEST_BYTES: Final = 50 << 20
_KEPT: Final = 3
_LOCK_S: Final = 5.0
_LONGEST_NAME: Final = 128


class AccessLog:
    """Collects lines and writes them every second; the gateways of a machine share the file.

    Each line is formatted at once: formatting those of a whole second in a thread would hold the interpreter lock, and
    with it the event loop, for milliseconds.
    """

    def __init__(self, path: Path, share: float, *, largest_bytes: int = _LARGEST_BYTES) -> None:
        self._path = path
        self._share = share
        self._largest_bytes = largest_bytes
        self._one_flush = asyncio.Lock()
        self._waiting: list[bytes] = []
        self._lost = 0

    def finished(self, facts: Finished) -> None:
        """Add a line if the request failed or its id falls into the share."""
        if self._share < 1.0 and not self._is_wanted(facts):
            return
        if len(self._waiting) >= _MOST_WAITING:
            self._lost += 1
            return
        self._waiting.append(line_of(facts, unix_of(facts.ended)))

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await asyncio.sleep(_WRITE_EVERY_S)
            await self.flush()

    async def flush(self) -> None:
        """Write the waiting lines; if the file cannot be written, they are lost and the log reports it."""
        # A flush that is cancelled goes on, since its thread may not have begun yet, and the next one waits for it.
        await asyncio.shield(self._flush())

    async def _flush(self) -> None:
        async with self._one_flush:
            if self._waiting:
                # The list is exchanged before the thread starts, since requests end while it writes.
                lines, self._waiting = self._waiting, []
                await asyncio.to_thread(self._write, b"".join(lines))
        if self._lost:
            log.warning("access log lost lines, too many were waiting", extra={"lines": self._lost})
            self._lost = 0

    def _is_wanted(self, facts: Finished) -> bool:
        if self._share == 0.0:
            return False
        failed = bool(facts.reason) or facts.status >= 400
        return failed or crc32(facts.request_id.encode()) < self._share * 2**32

    def _write(self, lines: bytes) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # The lock keeps a gateway from appending to a file that another one is just renaming.
            with FileLock(f"{self._path}.lock", timeout=_LOCK_S):
                self._rotate(len(lines))
                with self._path.open("ab") as file:
                    file.write(lines)
        except (OSError, Timeout) as exc:
            log.warning("access log not written, its lines are lost", extra={"error": str(exc)})

    def _rotate(self, size: int) -> None:
        """Rename `access.log` to `access.log.1`, and so on, before the file grows too large."""
        if not self._path.exists() or self._path.stat().st_size + size <= self._largest_bytes:
            return
        for number in range(_KEPT - 1, 0, -1):
            with suppress(FileNotFoundError):
                self._numbered(number).rename(self._numbered(number + 1))
        self._path.rename(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def line_of(facts: Finished, ended_unix: float) -> bytes:
    """Return the line of a request with its line end. Times are seconds."""
    first_byte_s = None if facts.first_byte_at is None else round(facts.first_byte_at - facts.began, 6)
    line: dict[str, Any] = {
        "at": round(ended_unix, 3),
        "request_id": facts.request_id,
        "path": facts.path,
        "status": facts.status,
        "reason": facts.reason or facts.engine_error,
        "key_id": facts.key_id,
        "model": facts.asked_name[:_LONGEST_NAME],
        "served_name": facts.served_name,
        "pool": facts.pool,
        "replica": facts.replica,
        "streamed": facts.streamed,
        "retries": facts.retries,
        "seconds": round(facts.ended - facts.began, 6),
        "queued_s": round(facts.queued_s, 6),
        "cold_start_s": round(facts.cold_start_s, 6),
        "first_byte_s": first_byte_s,
        "overhead_s": round(facts.overhead_s, 6),
        "prompt_tokens": facts.prompt_tokens,
        "completion_tokens": facts.completion_tokens,
        "trace_id": facts.traceparent[3:35],
    }
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
