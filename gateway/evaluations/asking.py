"""Chats that an evaluation asks, through the front door of this gateway, again where that may help."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from gateway.batches.front_door import FrontDoor
from gateway.batches.records import LineAnswer
from gateway.batches.retrying import again
from gateway.keys.keyring import Keyring
from graders.errors import Fault, GradingFailed
from graders.grade import ModelAnswer
from graders.http_models import read_answer
from registry.evaluations.evaluation import Evaluation

CHAT: Final = "/v1/chat/completions"
_LONGEST_SHOWN: Final = 500


class KeyGone(Exception):
    """The key whose rights the evaluation has is not valid any more."""


class NoAnswer(Exception):
    """A chat has no answer, in every attempt; the message is the gateway's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatAnswer:
    """The answer to a chat."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float


class EvaluationChats:
    """Asks chats with the rights of the key that created the evaluation; those of a rollout's gate with our own."""

    def __init__(self, door: FrontDoor, keyring: Keyring, evaluation: Evaluation) -> None:
        self._door = door
        self._keyring = keyring
        self._evaluation = evaluation
        self.judges = {name: judge.served_name for name, judge in evaluation.judges.items()}
        """Name in the suite -> the served name that is asked."""
        self.problem = ""
        """Why the last attempt had no answer; empty after one that had."""

    async def ask(self, body: Mapping[str, Any]) -> ChatAnswer:
        """Return the answer. Raises `NoAnswer` or `KeyGone`."""
        began, data, failures = time.monotonic(), json.dumps(body).encode(), 0
        while True:
            answer = await self._door.ask(CHAT, data, self._headers())
            repeat = again(answer, failures)
            if repeat is None:
                self.problem = ""
                return _read(answer, time.monotonic() - began)
            failures += repeat.is_failure
            self.problem = _refusal(answer)
            await asyncio.sleep(max(repeat.after_s, answer.leaves_s))

    def _headers(self) -> list[tuple[str, bytes]]:
        evaluation = self._evaluation
        is_gate = evaluation.rollout_id is not None
        credential = self._keyring.lend_own() if is_gate else self._keyring.lend(evaluation.key_id)
        if credential is None:
            raise KeyGone("the API key that created the evaluation is not valid any more; resume it with a valid one")
        headers = [("x-lorry-priority", b"low")]
        return [*headers, ("authorization", credential)] if credential else headers


class JudgeChats:
    """The models of checks, which run in threads, by way of the loop's chats."""

    def __init__(self, chats: EvaluationChats, loop: asyncio.AbstractEventLoop) -> None:
        self.chats = chats
        self._loop = loop
        self._judges = chats.judges
        self._under_way: set[Future[ChatAnswer]] = set()

    def answer(self, body: Mapping[str, Any]) -> ModelAnswer:
        """Return the answer of the pinned judge to the chat *body*; `GradingFailed` if there is none."""
        pinned = {**body, "model": self._judges[body["model"]]}
        asked = asyncio.run_coroutine_threadsafe(self.chats.ask(pinned), self._loop)
        self._under_way.add(asked)
        try:
            found = asked.result()
        except NoAnswer as exc:
            raise GradingFailed(Fault.MODEL_SERVER, f"the judge {pinned['model']}: {exc}") from exc
        finally:
            self._under_way.discard(asked)
        usage = {"prompt_tokens": found.prompt_tokens, "completion_tokens": found.completion_tokens}
        return ModelAnswer(text=found.text, usage=usage)

    def close(self) -> None:
        """Cut off what is under way, so that no thread waits for it."""
        for asked in list(self._under_way):
            asked.cancel()


def _read(answer: LineAnswer, seconds: float) -> ChatAnswer:
    try:
        whole = json.loads(answer.body)
        found = read_answer(answer.status, whole)
    except ValueError as exc:
        raise NoAnswer(_refusal(answer)) from exc
    except GradingFailed as exc:
        raise NoAnswer(exc.message) from exc
    return ChatAnswer(
        text=found.text,
        finish_reason=str(whole["choices"][0].get("finish_reason") or ""),
        prompt_tokens=found.usage.get("prompt_tokens", 0),
        completion_tokens=found.usage.get("completion_tokens", 0),
        seconds=seconds,
    )


def _refusal(answer: LineAnswer) -> str:
    if answer.status == 0:
        return "the answer broke off"
    try:
        return f"{answer.status}: {str(json.loads(answer.body)['error']['message'])[:_LONGEST_SHOWN]}"
    except (ValueError, KeyError, TypeError):
        return f"{answer.status}: {answer.body[:_LONGEST_SHOWN].decode('utf-8', 'replace')}"
