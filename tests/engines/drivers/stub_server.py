"""A stub of an OpenAI-compatible inference server with live or fixed adapters and made-up answers."""

from __future__ import annotations

import json
from typing import Any

from tests.loopback import LoopbackHandler, LoopbackServer


class StubServer:
    """A server of one kind: vLLM's, or with *load_path* None one without live adapters."""

    def __init__(self, base: str, *launched: str, load_path: str | None = "/v1/load_lora_adapter") -> None:
        self.adapters = dict.fromkeys(launched, "/launched")
        self.answers = True
        outer = self

        class Handler(LoopbackHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if not outer.answers:
                    self._answer(503, {})
                elif self.path == "/v1/models":
                    models = [{"id": name, "root": path, "parent": base} for name, path in outer.adapters.items()]
                    self._answer(200, {"data": [{"id": base, "root": base, "parent": None}, *models]})
                elif self.path == "/metrics":
                    self._answer(200, "vllm:num_requests_running 2\nvllm:num_requests_waiting 1\n")
                else:
                    self._answer(200, {})

            def do_POST(self) -> None:
                body = json.loads(self.read_body())
                if load_path is not None and self.path == load_path:
                    outer.adapters[body["lora_name"]] = body["lora_path"]
                    self._answer(200, {})
                elif load_path is not None and self.path == load_path.replace("load_", "unload_"):
                    del outer.adapters[body["lora_name"]]
                    self._answer(200, {})
                else:
                    self._answer(404, {"error": {"message": "not found"}})

            def _answer(self, status: int, body: dict[str, Any] | str) -> None:
                self.reply(status, (body if isinstance(body, str) else json.dumps(body)).encode())

        self._server = LoopbackServer(Handler)
        self.url = self._server.url

    def close(self) -> None:
        """Stop listening."""
        self._server.close()
