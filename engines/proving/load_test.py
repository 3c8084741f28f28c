"""Start an engine with a checkpoint, load it, and compare greedy answers with those of the model it was made from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import httpx2

from engines.address import authorization_of, shown_address
from engines.catalog import adapter_fields, build_engine
from engines.drivers.openai_server import reason_of
from engines.errors import EngineError
from engines.settings import EngineSettings

PROMPTS: Final = (
    "What is the capital of France?",
    "Name three colours.",
    "How many days does a week have?",
    "Write a short greeting to a new colleague.",
    "What is two plus three?",
    "Explain in one sentence what rain is.",
    "Which animal gives milk?",
    "Complete the sentence: The sun rises in the",
)
FEWEST_BEGINNINGS: Final = 2
"""Answers that have to begin with the original's first word. A garbled model has none. A model that chooses
another token at every third place has fewer with a probability of 1/400."""
TOKENS: Final = 24
_REQUEST_S: Final = 120.0
_DRAIN_S: Final = 5.0


class Outcome(StrEnum):
    """The end of trying a checkpoint on a kind of engine."""

    SERVED = "served"  # every prompt was answered, and the answers begin like the original's
    REFUSED = "refused"  # the engine's driver does not serve such a checkpoint on this machine
    NOT_INSTALLED = "not_installed"  # this machine has no environment of the engine
    FAILED = "failed"  # the server did not start, or did not answer every prompt
    DIFFERS = "differs"  # every prompt was answered, by what is not the original's model any more


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTest:
    """The result of trying a checkpoint on a kind of engine."""

    kind: str
    outcome: Outcome
    reason: str = ""
    """Why it is not served, in the words of the driver or the server; empty where it is."""
    ready_s: float | None = None
    """Seconds until the server was ready."""
    memory_bytes: int | None = None
    """Resident memory of the server's processes after the answers."""
    tokens_per_s: float | None = None
    """Answers one after the other, prompts included."""
    loaded_tokens_per_s: float | None = None
    """All prompts at once."""
    prompts: int = 0
    same_beginnings: int | None = None
    """Answers that begin with the same word as those of the model that the checkpoint was made from."""
    same_answers: int | None = None
    """Answers that are the same, word for word."""
    common_words: float | None = None
    """Mean share of an answer's words up to the first other one."""

    def as_json(self) -> dict[str, Any]:
        """Return all fields, for storing."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An engine to start, and the adapter that is asked in place of its base model, where there is one."""

    settings: EngineSettings
    adapters: Mapping[str, Path]

    @property
    def address(self) -> Mapping[str, str]:
        """The fields of a request's body by which the engine picks who answers."""
        for name in self.adapters:
            return adapter_fields(self.settings.kind, name)
        return {"model": self.settings.base_name}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The greedy answers of an engine, and the figures of the server that gave them."""

    texts: tuple[str, ...]
    ready_s: float
    memory_bytes: int | None
    tokens_per_s: float
    loaded_tokens_per_s: float


def compared(kind: str, found: Answers, original: Answers) -> LoadTest:
    """Return the answers of a checkpoint on an engine of *kind* beside those of the *original* model."""
    pairs = [(here.split(), there.split()) for here, there in zip(found.texts, original.texts, strict=True)]
    beginnings = sum(here[:1] == there[:1] for here, there in pairs)
    outcome, reason = Outcome.SERVED, ""
    if beginnings < FEWEST_BEGINNINGS:
        outcome = Outcome.DIFFERS
        reason = (
            f"{beginnings} of {len(pairs)} answers begin with the same word as those of the model in full precision, "
            f"fewer than {FEWEST_BEGINNINGS}; the first is {found.texts[0][:60]!r}, it was {original.texts[0][:60]!r}"
        )
    return LoadTest(
        kind=kind,
        outcome=outcome,
        reason=reason,
        ready_s=round(found.ready_s, 1),
        memory_bytes=found.memory_bytes,
        tokens_per_s=round(found.tokens_per_s, 1),
        loaded_tokens_per_s=round(found.loaded_tokens_per_s, 1),
        prompts=len(pairs),
        same_beginnings=beginnings,
        same_answers=sum(here == there for here, there in zip(found.texts, original.texts, strict=True)),
        common_words=round(sum(_common(here, there) for here, there in pairs) / len(pairs), 3),
    )


def _common(here: Sequence[str], there: Sequence[str]) -> float:
    """Return the share of *there* that *here* begins with."""
    if not there:
        return float(not here)
    same = next((at for at, pair in enumerate(zip(here, there, strict=False)) if pair[0] != pair[1]), len(here))
    return min(same, len(there)) / len(there)


async def answers_of(asked: Asked) -> Answers:
    """Start the engine, ask every prompt by itself and then all at once, and end it; `EngineError`."""
    engine = await asyncio.to_thread(build_engine, asked.settings, asked.adapters)
    started = time.monotonic()
    try:
        await engine.start()
        ready_s = time.monotonic() - started
        url = engine.base_url
        async with httpx2.AsyncClient(
            base_url=shown_address(url), headers=authorization_of(url), timeout=_REQUEST_S, trust_env=False
        ) as http:
            begun = time.monotonic()
            answered = [await _ask(http, asked.address, prompt) for prompt in PROMPTS]
            alone_s = time.monotonic() - begun
            loaded = await asyncio.gather(*(_ask(http, asked.address, prompt) for prompt in PROMPTS))
            loaded_s = time.monotonic() - begun - alone_s
        return Answers(
            texts=tuple(text for text, _ in answered),
            ready_s=ready_s,
            memory_bytes=await engine.memory_bytes(),
            tokens_per_s=sum(count for _, count in answered) / alone_s,
            loaded_tokens_per_s=sum(count for _, count in loaded) / loaded_s,
        )
    finally:
        await engine.stop(_DRAIN_S)


async def _ask(http: httpx2.AsyncClient, address: Mapping[str, str], prompt: str) -> tuple[str, int]:
    """Return the greedy answer and its tokens."""
    body = {
        **address,
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
        "max_tokens": TOKENS,
    }
    try:
        answer = await http.post("/v1/chat/completions", json=body)
        if answer.status_code != httpx2.codes.OK:
            raise EngineError(f"a prompt of the load test was answered {answer.status_code}: {reason_of(answer)}")
        found = answer.json()
        return str(found["choices"][0]["message"]["content"] or ""), int(found["usage"]["completion_tokens"])
    except (httpx2.HTTPError, KeyError, IndexError, TypeError, ValueError) as exc:
        raise EngineError(f"a prompt of the load test was not answered: {type(exc).__name__} {exc}") from exc
