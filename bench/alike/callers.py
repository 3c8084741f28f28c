"""Callers with long system prompts that many of them share, in even traffic with bursts."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2

SYSTEM_PROMPTS: Final = 6
SYSTEM_WORDS: Final = 150
QUESTION_WORDS: Final = (3, 40)
TOKENS: Final = (2, 12)
BURST_EVERY_S: Final = 20.0
BURST_S: Final = 4.0
PAUSE_IN_BURST: Final = 0.1
"""The part of its usual pause that a caller takes in a burst."""
WORDS: Final = ("river", "stone", "market", "cloud", "engine", "letter", "garden", "winter", "paper", "doctor")


@dataclass(slots=True, kw_only=True)
class Callers:
    """They ask *model* at *url* until they are cancelled."""

    url: str
    model: str
    pause_s: float
    answered: int = 0
    in_cache: int = 0
    """Answers whose prompt was found in the engine's cache by at least half."""
    failed: Counter[str] = field(default_factory=Counter)

    async def call(self, seed: int) -> None:
        """Be one caller: each question is a conversation of its own."""
        source = random.Random(seed)
        systems = [" ".join(random.Random(number).choices(WORDS, k=SYSTEM_WORDS)) for number in range(SYSTEM_PROMPTS)]
        async with httpx2.AsyncClient(base_url=self.url, timeout=120.0, trust_env=False) as http:
            while True:
                is_burst = time.monotonic() % BURST_EVERY_S < BURST_S
                await asyncio.sleep(source.expovariate(1 / self.pause_s) * (PAUSE_IN_BURST if is_burst else 1.0))
                question = " ".join(source.choices(WORDS, k=source.randint(*QUESTION_WORDS)))
                await self._ask(http, source.choice(systems), question, source)

    async def _ask(self, http: httpx2.AsyncClient, system: str, question: str, source: random.Random) -> None:
        messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
        body: dict[str, Any] = {"model": self.model, "messages": messages, "max_tokens": source.randint(*TOKENS)}
        body |= {"stream": source.random() < 0.8, "user": f"{source.random()}"}
        if body["stream"]:
            body["stream_options"] = {"include_usage": True}
        try:
            answer = await http.post("/v1/chat/completions", json=body)
        except httpx2.TransportError as exc:
            self.failed[type(exc).__name__] += 1
            return
        if answer.status_code != 200 or (body["stream"] and "[DONE]" not in answer.text):
            self.failed[f"status {answer.status_code}"] += 1
            return
        self.answered += 1
        usage = _usage(answer.text, is_streamed=body["stream"])
        details = usage.get("prompt_tokens_details") or {}
        self.in_cache += 2 * details.get("cached_tokens", 0) >= usage["prompt_tokens"]


def _usage(text: str, *, is_streamed: bool) -> dict[str, Any]:
    if is_streamed:
        events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {")]
        text = next(event for event in reversed(events) if '"usage":{' in event.replace(" ", ""))
    usage: dict[str, Any] = json.loads(text)["usage"]
    return usage
