"""A client that sends raw bytes and reads answers unchanged."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass, field

import httptools


@dataclass
class Told:
    """An answer as it was read."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    is_whole: bool = False


class Answers:
    """Reads the answers to requests of one connection, interim ones left out."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._parser = httptools.HttpResponseParser(self)
        self._now = Told()
        self.read: list[Told] = []
        self.interim: list[int] = []
        self.is_over = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self._now.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._now.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._now.body += body

    def on_message_complete(self) -> None:
        told, self._now = self._now, Told()
        if told.status < 200:
            self.interim.append(told.status)
            return
        told.is_whole = True
        self.read.append(told)

    @property
    def begun(self) -> Told:
        """The answer that is being read."""
        return self._now

    def step(self) -> bool:
        """Read once; False if the connection has ended."""
        try:
            data = self._connection.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.is_over = True
            return False
        self._parser.feed_data(data)
        return True

    def wait(self, count: int) -> list[Told]:
        """The first *count* answers, fewer if the connection ends before."""
        while len(self.read) < count and self.step():
            pass
        return self.read

    def wait_for_the_end(self) -> list[Told]:
        """All answers until the other end closes; one that its end cuts short is the last, and not whole."""
        while self.step():
            pass
        if self._now.status:
            self.read.append(self._now)
        return self.read


def send(connection: socket.socket, parts: Iterable[bytes]) -> None:
    """Send each part by itself, as far as the other end listens."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for part in parts:
        try:
            connection.sendall(part)
        except OSError:
            return
