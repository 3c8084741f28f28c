"""Clients that ask without end, each at one gateway until that fails, then at the next, as a balancer would have it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Final

import httpx2

from tests.cluster.lab import Host
from tests.cluster.two_hosts import PORT
from tests.waiting import wait_for

_TOKENS: Final = 160
"""Long enough for an answer of the small model to be under way at nearly every moment."""
_SILENT_S: Final = 10
"""Clients have to notice a gateway that lost power too."""
_SOCKET: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * _SILENT_S),
)


@dataclass(slots=True, kw_only=True)
class Asked:
    """A request and what came of it."""

    host: str
    """Whose gateway was asked."""
    is_streamed: bool
    began_at: float
    """Monotonic, as are all times."""
    ended_at: float | None = None
    status: int | None = None
    replica: str = ""
    bytes_read: int = 0
    is_whole: bool = False
    fault: str = ""
    """The client's error, or the error that the answer is."""

    @property
    def failed(self) -> bool:
        """Whether the request ended without a whole answer."""
        return self.ended_at is not None and not self.is_whole


class ClientLoad:
    """Threads that ask, and everything that they asked."""

    def __init__(self, key: str, model: str) -> None:
        self._headers = {"authorization": f"Bearer {key}"}
        self._model = model
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.asked: list[Asked] = []

    def start(self, hosts: Sequence[Host], clients: int) -> None:
        """Let *clients* ask, at the first of *hosts* until it fails."""
        for number in range(clients):
            thread = threading.Thread(target=self._ask_on, args=(hosts, bool(number % 2)))
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Let every client finish the request that it waits for."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def under_way(self, host: Host) -> list[Asked]:
        """Return the requests at the gateway of *host* that are not answered yet."""
        return [each for each in list(self.asked) if each.host == host.name and each.ended_at is None]

    def whole(self, hosts: Collection[Host], since: float) -> list[Asked]:
        """Return the requests at these gateways that began *since* then and were answered."""
        names = {host.name for host in hosts}
        return [each for each in list(self.asked) if each.host in names and each.began_at > since and each.is_whole]

    def wait_for_answers(self, host: Host, count: int, timeout_s: float) -> None:
        """Return when *count* requests that begin from now on were answered by the gateway of *host*."""
        began = time.monotonic()
        wait_for(lambda: len(self.whole((host,), began)) >= count, timeout_s)

    def _ask_on(self, hosts: Sequence[Host], is_streamed: bool) -> None:
        ring = cycle(hosts)
        host = next(ring)
        transport = httpx2.HTTPTransport(socket_options=_SOCKET)
        with httpx2.Client(transport=transport, timeout=300.0, trust_env=False, headers=self._headers) as client:
            while not self._stop.is_set():
                asked = Asked(host=host.name, is_streamed=is_streamed, began_at=time.monotonic())
                self.asked.append(asked)
                try:
                    self._ask(client, host, asked)
                except httpx2.TransportError as exc:
                    asked.fault = f"{type(exc).__name__}: {exc}"
                    host = next(ring)
                asked.ended_at = time.monotonic()

    def _ask(self, client: httpx2.Client, host: Host, asked: Asked) -> None:
        text = f"question {asked.began_at}"
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": _TOKENS,
            "ignore_eos": True,
            "stream": asked.is_streamed,
        }
        url = f"http://{host.address}:{PORT}/v1/chat/completions"
        with client.stream("POST", url, json=body) as answer:
            asked.status = answer.status_code
            asked.replica = answer.headers.get("x-lorry-replica", "")
            read = bytearray()
            for chunk in answer.iter_raw():
                read += chunk
                asked.bytes_read = len(read)
        end = b"data: [DONE]\n\n" if asked.is_streamed else b"}"
        asked.is_whole = answer.status_code == httpx2.codes.OK and bytes(read).endswith(end)
        if not asked.is_whole:
            asked.fault = bytes(read[-300:]).decode(errors="replace")


@contextmanager
def client_load(key: str, model: str) -> Iterator[ClientLoad]:
    """Have a load inside the block; it has ended afterwards."""
    load = ClientLoad(key, model)
    try:
        yield load
    finally:
        load.stop()
