"""An engine for synchronous tests: its event loop runs in a thread that lasts as long as the engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import httpx2

from engines.catalog import build_engine
from engines.protocol import Engine
from engines.settings import EngineSettings

CALL_TIMEOUT_S = 120.0
WAIT_S = 30.0

Result = TypeVar("Result")


class EngineHost:
    """One started engine and a client for its server."""

    def __init__(self, settings: EngineSettings) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.engine: Engine = build_engine(settings)
        self.call(self.engine.start())
        self.http = httpx2.Client(base_url=self.engine.base_url, timeout=CALL_TIMEOUT_S, trust_env=False)

    def call(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run *coroutine* in the engine's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(CALL_TIMEOUT_S)

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

    def chat(self, question: str = "What is the capital of France?", **fields: Any) -> dict[str, Any]:
        """A whole greedy chat answer of at most 12 tokens, changed by *fields*."""
        answer = self.http.post("/v1/chat/completions", json=chat_body(question, **fields))
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def say(self, **fields: Any) -> str:
        """The text of a chat answer."""
        text: str = self.chat(**fields)["choices"][0]["message"]["content"]
        return text

    def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        lines = self.http.get("/metrics").text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(name + " "))


def chat_body(question: str = "What is the capital of France?", **fields: Any) -> dict[str, Any]:
    """The body of a greedy chat of at most 12 tokens, changed by *fields*."""
    messages = [{"role": "user", "content": question}]
    return {"model": "base", "messages": messages, "temperature": 0, "max_tokens": 12} | fields


def wait_until(holds: Callable[[], bool]) -> None:
    """Return once it holds; fail after a while."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
