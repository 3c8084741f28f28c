"""Chat answers while they arrive: server-sent events of one or of several requests at a time."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

from gateway.cli.client import Client
from gateway.cli.errors import CommandFailed

Message = Mapping[str, str]
"""A message of a chat: its `role` and its `content`."""


@dataclass(slots=True, kw_only=True)
class Answer:
    """The part of an answer that has arrived."""

    model: str
    """The name that was asked."""
    text: str = ""
    revision: str | None = None
    """Served name of the revision or base model that answers."""
    replica: str | None = None
    finish_reason: str | None = None
    tokens: int | None = None
    error: str | None = None
    began: float = field(default_factory=time.monotonic)
    first_s: float | None = None
    """Seconds until the first text."""
    whole_s: float | None = None
    """Seconds until the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request for one answer."""

    model: str
    messages: Sequence[Message]
    options: Mapping[str, Any]
    """Further fields of the body."""
    session: str
    """Keeps the chat on one side of a rollout."""


def ask(
    client: Client, questions: Sequence[Question], answers: Sequence[Answer], on_change: Callable[[], None]
) -> None:
    """Fill *answers* with what comes, and call *on_change* for each piece; return when all are whole.

    What fails stands in the `error` of its answer. `KeyboardInterrupt` closes the connections, which ends generation.
    """
    asyncio.run(_ask_all(client, questions, answers, on_change))


async def _ask_all(
    client: Client, questions: Sequence[Question], answers: Sequence[Answer], on_change: Callable[[], None]
) -> None:
    async with httpx2.AsyncClient(**client.options) as http, asyncio.TaskGroup() as group:
        for question, answer in zip(questions, answers, strict=True):
            group.create_task(_ask_one(client, http, question, answer, on_change))


async def _ask_one(
    client: Client, http: httpx2.AsyncClient, question: Question, answer: Answer, on_change: Callable[[], None]
) -> None:
    body = {"model": question.model, "messages": list(question.messages), "stream": True, **question.options}
    body["stream_options"] = {"include_usage": True}
    headers = {"x-session-id": question.session}
    try:
        async with http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
            if response.status_code >= 400:
                await response.aread()
                raise client.failure(response)
            answer.revision = response.headers.get("x-lorry-revision")
            answer.replica = response.headers.get("x-lorry-replica")
            async for line in response.aiter_lines():
                data = line.removeprefix("data:").strip()
                if line.startswith("data:") and data != "[DONE]":
                    _take_in(answer, data)
                    on_change()
            if answer.finish_reason is None:
                answer.error = "the answer ended before it was whole"
    except httpx2.TransportError as exc:
        answer.error = f"the answer was cut off: {exc}" if answer.text else str(client.unreachable(exc))
    except CommandFailed as exc:
        answer.error = str(exc)
    answer.whole_s = time.monotonic() - answer.began
    on_change()


def _take_in(answer: Answer, data: str) -> None:
    """Add an event of the stream to *answer*; `CommandFailed` for the one that ends a failed stream, or is no event."""
    try:
        event: Mapping[str, Any] = json.loads(data)
    except ValueError as exc:
        raise CommandFailed(f"the answer has an event that is no JSON: {data[:80]!r}") from exc
    if (error := event.get("error")) is not None:
        raise CommandFailed(str(error.get("message", error)))
    if (usage := event.get("usage")) is not None:
        answer.tokens = usage.get("completion_tokens")
    for choice in event.get("choices", ()):
        answer.text += choice.get("delta", {}).get("content") or ""
        answer.finish_reason = choice.get("finish_reason") or answer.finish_reason
    if answer.text and answer.first_s is None:
        answer.first_s = time.monotonic() - answer.began
