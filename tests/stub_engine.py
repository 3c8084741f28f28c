"""A scripted inference server, for the faults that a real one cannot be made to show on demand."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler

from tests.loopback import LoopbackHandler, LoopbackServer


class StubHandler(LoopbackHandler):
    """A request to a stub engine, its body read."""

    body: bytes = b""


Script = Callable[[StubHandler], None]


class StubEngine:
    """Answers every POST by the next script, the last one again and again, and every GET with its load."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = list(scripts)
        self.bodies: list[bytes] = []
        self.paths: list[str] = []
        self.heads: list[dict[str, str]] = []
        """Headers of the requests, their names in lower case."""
        self.running: int | None = 0
        """Number of requests that it reports, those that its scripts answer included; None reports none."""
        self.looks = 0
        """How often its load was read."""
        self._count = threading.Lock()
        outer = self

        class Handler(StubHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.body = self.read_body()
                outer.bodies.append(self.body)
                outer.paths.append(self.path)
                outer.heads.append(self.lower_headers())
                script = outer.scripts.pop(0) if len(outer.scripts) > 1 else outer.scripts[0]
                outer.add_running(1)
                try:
                    script(self)
                finally:
                    outer.add_running(-1)

            def do_GET(self) -> None:
                outer.looks += 1
                load = "" if outer.running is None else f"engine_requests_running {outer.running}.0\n"
                self.reply(200, f"{load}engine_requests_waiting 0.0\n".encode(), "text/plain")

        self._server = LoopbackServer(Handler)
        self.url = self._server.url

    def add_running(self, requests: int) -> None:
        """Report so many requests more."""
        with self._count:
            self.running = None if self.running is None else self.running + requests

    def close(self) -> None:
        """Stop listening."""
        self._server.close()


def answer(status: int, body: bytes, content_type: str = "application/json") -> Script:
    """Return a script that sends a whole answer."""

    def script(handler: StubHandler) -> None:
        handler.reply(status, body, content_type)

    return script


def drop(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def by_model(**scripts: Script) -> Script:
    """Return a script that runs the one of the revision in the request, `r1` for `support@1`."""

    def script(handler: StubHandler) -> None:
        scripts["r" + json.loads(handler.body)["model"].rpartition("@")[2]](handler)

    return script


def stream(*chunks: bytes) -> Script:
    """Return a script that sends a whole event stream."""

    def script(handler: BaseHTTPRequestHandler) -> None:
        _begin_stream(handler, chunks)
        handler.wfile.write(b"0\r\n\r\n")

    return script


def stream_slowly(*chunks: tuple[float, bytes]) -> Script:
    """Return a script that sends an event stream of pairs: seconds before a chunk, and the chunk."""

    def script(handler: BaseHTTPRequestHandler) -> None:
        _begin_stream(handler, ())
        for seconds, chunk in chunks:
            time.sleep(seconds)
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        handler.wfile.write(b"0\r\n\r\n")

    return script


def stream_then_drop(*chunks: bytes) -> Script:
    """Return a script that begins an event stream, then closes the connection in the middle."""

    def script(handler: BaseHTTPRequestHandler) -> None:
        _begin_stream(handler, chunks)
        drop(handler)

    return script


def stream_then_wait(*chunks: bytes) -> Script:
    """Return a script that begins an event stream, then waits until the other end closes the connection."""

    def script(handler: BaseHTTPRequestHandler) -> None:
        _begin_stream(handler, chunks)
        handler.connection.recv(1)
        handler.close_connection = True

    return script


def _begin_stream(handler: BaseHTTPRequestHandler, chunks: Iterable[bytes]) -> None:
    handler.send_response(200)
    handler.send_header("content-type", "text/event-stream")
    handler.send_header("transfer-encoding", "chunked")
    handler.end_headers()
    for chunk in chunks:
        handler.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
