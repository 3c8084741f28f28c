"""A TCP relay before a database, which counts bytes, and what a block of work cost."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import sqlalchemy as sa


@dataclass(slots=True, kw_only=True)
class Cost:
    """The cost of a block of work."""

    statements: int = 0
    sent_bytes: int = 0
    """From us to the database."""
    received_bytes: int = 0
    seconds: float = 0.0
    processor_s: float = 0.0
    """Of this process, without the database's."""


class CountingRelay:
    """Relays connections to a database on this machine, and counts."""

    def __init__(self, url: sa.URL) -> None:
        """Relay to the database of *url*; `url` of the relay leads here."""
        self._target = (url.host or "127.0.0.1", url.port or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = url.set(host="127.0.0.1", port=self._listener.getsockname()[1])
        self._bytes = [0, 0]
        self._statements = 0
        sa.event.listen(sa.Engine, "before_cursor_execute", self._count)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no further connection."""
        sa.event.remove(sa.Engine, "before_cursor_execute", self._count)
        self._listener.shutdown(socket.SHUT_RDWR)  # closing alone does not wake the thread that accepts
        self._listener.close()

    def _count(self, *_: object) -> None:
        self._statements += 1

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                ours, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(ours,), daemon=True).start()

    def _serve(self, ours: socket.socket) -> None:
        with ours, socket.create_connection(self._target) as theirs:
            back = threading.Thread(target=self._relay, args=(1, theirs, ours), daemon=True)
            back.start()
            self._relay(0, ours, theirs)
            back.join()

    def _relay(self, way: int, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(1 << 16):
                self._bytes[way] += len(chunk)
                target.sendall(chunk)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    @contextmanager
    def cost(self) -> Iterator[Cost]:
        """Yield what will hold the cost of the block after it. Statements of all engines of this process count."""
        found = Cost()
        before = (self._statements, *self._bytes)
        began, processor = time.perf_counter(), time.process_time()
        yield found
        found.seconds, found.processor_s = time.perf_counter() - began, time.process_time() - processor
        after = (self._statements, *self._bytes)
        found.statements, found.sent_bytes, found.received_bytes = (b - a for a, b in zip(before, after, strict=True))
