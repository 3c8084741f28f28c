"""Metrics of all gateway processes of a machine in one scrape.

The gateways share a port, so a scrape reaches any one of them, which asks the others. Each listens on a socket file
below `LORRY_HOME/run/gateways` and writes its metrics to whoever connects. A figure carries the name of its process
instead of being summed, since a sum would fall when a process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Metrics by process name, and the number of processes that did not reply in time."""

    texts: dict[str, str] = field(default_factory=dict)
    silent: int = 0


class Siblings:
    """This process among the gateways of its machine; alone without a *folder*.

    *name* consists of the machine's name, `-gateway-` and a suffix, so that machines may share the folder.
    """

    def __init__(self, folder: Path | None, name: str, own: Callable[[], Awaitable[str]], timeout_s: float) -> None:
        self._folder = folder
        self.name = name
        self._prefix = f"{name.rpartition('-')[0]}-"
        self._own = own
        self._timeout_s = timeout_s
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen for the other gateways. Raises `OSError` if the folder cannot be written."""
        if self._folder is None:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with _short(self._folder) as folder:
            listener.bind(f"{folder}/.{self.name}")
        listener.listen()
        (self._folder / f".{self.name}").rename(self._folder / self.name)  # visible only once it answers
        self._server = await asyncio.start_unix_server(self._answer, sock=listener)

    async def aclose(self) -> None:
        """Stop listening."""
        if self._server is not None and self._folder is not None:
            # The name goes first, so that no other gateway asks a socket that is about to close.
            (self._folder / self.name).unlink(missing_ok=True)
            self._server.close()
            self._server = None

    async def figures(self) -> Figures:
        """Return the metrics of this process and all others."""
        names = [name for name in self._names() if name != self.name]
        own, *others = await asyncio.gather(self._own(), *(self._ask(name) for name in names))
        texts = {self.name: own or ""}
        texts |= {name: text for name, text in zip(names, others, strict=True) if text}
        return Figures(texts=texts, silent=sum(text is None for text in others))

    def processes(self) -> list[str]:
        """Return the names of this machine's gateway processes, this one's among them."""
        return sorted({self.name, *self._names()})

    def _names(self) -> list[str]:
        if self._folder is None or not self._folder.is_dir():
            return []
        return sorted(name for name in os.listdir(self._folder) if name.startswith(self._prefix))

    async def _ask(self, name: str) -> str | None:
        """Return the metrics of process *name*: empty if it has ended, None if it does not reply in time."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._read(name)
        # A refusal means that nobody listens any more: `_names` gives only files of this machine.
        except (FileNotFoundError, ConnectionRefusedError):
            self._forget(name)
            return ""
        except (OSError, TimeoutError) as exc:
            log.warning("gateway did not report its metrics", extra={"gateway": name, "error": repr(exc)})
            return None

    async def _read(self, name: str) -> str:
        assert self._folder is not None  # noqa: S101 - it had names
        with _short(self._folder) as folder:
            reader, writer = await asyncio.open_unix_connection(f"{folder}/{name}")
        try:
            return (await reader.read()).decode()
        finally:
            writer.close()

    def _forget(self, name: str) -> None:
        """Remove the file that a killed process left behind."""
        if self._folder is not None:
            (self._folder / name).unlink(missing_ok=True)

    async def _answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                writer.write((await self._own()).encode())
                await writer.drain()
        except (ConnectionError, TimeoutError):
            pass  # the asking gateway has gone
        finally:
            writer.close()


@contextlib.contextmanager
def _short(folder: Path) -> Iterator[str]:
    """Yield a path to *folder* that fits into a socket address, whose limit is 107 bytes."""
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)
