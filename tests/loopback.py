"""An HTTP server on a free port of 127.0.0.1, for tests that play the other side of a connection."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

POLL_S = 0.01
"""How often the server looks whether it is to stop: every test that has one waits for that at its end."""


class LoopbackHandler(BaseHTTPRequestHandler):
    """A request; logs nothing, reads the body and replies in one call each."""

    disable_nagle_algorithm = True
    """Head and body are two packets: the second would wait 40 ms for the first one's delayed acknowledgement."""

    def read_body(self) -> bytes:
        """Return the body, of the length that the head names."""
        return self.rfile.read(int(self.headers["content-length"]))

    def lower_headers(self) -> dict[str, str]:
        """Return the headers, their names in lower case."""
        return {name.lower(): value for name, value in self.headers.items()}

    def reply(self, status: int, body: bytes = b"", content_type: str = "application/json") -> None:
        """Send a whole answer."""
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


class LoopbackServer:
    """A server at `url` until it is closed; every request has a thread and a *handler* of its own."""

    def __init__(self, handler: type[LoopbackHandler]) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_S,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
