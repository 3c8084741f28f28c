"""An engine for synchronous tests: its event loop runs in a thread that lasts as long as the engine."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import httpx2

from engines.address import authorization_of, shown_address
from engines.catalog import adapter_fields, build_engine
from engines.load import EngineLoad
from engines.protocol import Engine
from engines.settings import EngineSettings

START_TIMEOUT_S = 320.0
CALL_TIMEOUT_S = 120.0
WAIT_S = 60.0
BASE = "base"

Result = TypeVar("Result")


class EngineHost:
    """A started engine and a client for its server."""

    def __init__(
        self,
        settings: EngineSettings,
        adapters: Mapping[str, Path],
        build: Callable[[EngineSettings, Mapping[str, Path]], Engine] = build_engine,
    ) -> None:
        self.kind = settings.kind
        self.log_path = settings.log_path
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.engine: Engine = build(settings, adapters)
        self.call(self.engine.start(), START_TIMEOUT_S)
        self.http = self.client_with(authorization_of(self.engine.base_url))

    def client_with(self, headers: Mapping[str, str]) -> httpx2.Client:
        """Return a client for the server that sends *headers*."""
        url = shown_address(self.engine.base_url)
        return httpx2.Client(base_url=url, headers=headers, timeout=CALL_TIMEOUT_S, trust_env=False)

    def call(self, coroutine: Coroutine[Any, Any, Result], timeout_s: float = CALL_TIMEOUT_S) -> Result:
        """Run *coroutine* in the engine's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout_s)

    def close(self) -> None:
        """End the engine and its loop."""
        self.http.close()
        self.call(self.engine.stop(5.0))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def load(self, name: str, path: Path) -> None:
        """Load an adapter."""
        self.call(self.engine.load_adapter(name, path))

    def busy(self) -> EngineLoad:
        """Return the load that the engine reports."""
        return self.call(self.engine.load())

    def body(self, question: str = "What is the capital of France?", **fields: Any) -> dict[str, Any]:
        """The body of a greedy chat of 12 tokens, changed by *fields*; `model` is named as this kind wants it."""
        messages = [{"role": "user", "content": question}]
        body: dict[str, Any] = {"model": BASE, "messages": messages, "temperature": 0, "max_tokens": 12} | fields
        address = {} if body["model"] == BASE else adapter_fields(self.kind, body["model"])
        return {**body, **address}

    def chat(self, question: str = "What is the capital of France?", **fields: Any) -> dict[str, Any]:
        """A whole chat answer."""
        answer = self.http.post("/v1/chat/completions", json=self.body(question, **fields))
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def say(self, **fields: Any) -> str:
        """The text of a chat answer."""
        text: str = self.chat(**fields)["choices"][0]["message"]["content"]
        return text

    def streamed(self, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        """The chunks of a stream that ends as it should."""
        with self.http.stream("POST", path, json=body | {"stream": True}) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            events = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
        assert events[-1] == "[DONE]"
        return [json.loads(event) for event in events[:-1]]

    def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        lines = self.http.get("/metrics").text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(name + " "))


def wait_until(holds: Callable[[], bool]) -> None:
    """Return once it holds; fail after a while."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
