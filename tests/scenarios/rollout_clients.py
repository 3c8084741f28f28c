"""The users of the rollout stories: an operator who publishes and starts, and clients who ask the quiz all along."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import httpx2
import openai

from gateway.engines_settings import BUNDLED_BASE
from tests.scenarios.quiz import JSON_QUESTIONS, QUIZ, Question, messages
from tests.up_process import Up
from tests.waiting import wait_for

ADAPTERS: Final = Path(__file__).parent / "adapters"
CLIENTS: Final = 6
MOST_TOKENS: Final = 16
LOAD_TIMEOUT_S: Final = 60.0
ANSWER_TIMEOUT_S: Final = 60.0


class Operator:
    """Drives one Lorry by its commands, and looks at it over HTTP; survives a gateway that is killed meanwhile."""

    def __init__(self, up: Up) -> None:
        self.up = up
        self._http = openai.OpenAI(base_url=up.url, api_key="none", max_retries=8, timeout=30.0)

    def get(self, path: str) -> Any:
        """Return the body of the answer to `GET`."""
        return self._http.get(path, cast_to=object)

    def post(self, path: str) -> Any:
        """Send `POST` once and return the body of its answer; `openai.APIStatusError` if it is refused."""
        return self._http.with_options(max_retries=0).post(path, cast_to=object, body={})

    def publish(self, name: str, canary: str, timeout_s: float = LOAD_TIMEOUT_S) -> None:
        """`NAME@1` is the reference and stable, `NAME@2` the *canary*, and both are loaded."""
        for folder in ("plain", canary):
            self.up.lorry("adapters", "publish", str(ADAPTERS / folder), "--name", name, "--base", BUNDLED_BASE)
        wait_for(lambda: self.stable(name) == 1 and self._has_loaded(f"{name}@2"), timeout_s)

    def start(self, name: str, *flags: str) -> str:
        """A rollout of `NAME@2` whose first step has begun; its id."""
        told = self.up.lorry("rollout", "start", f"{name}@2", *flags, "--json")
        rollout = json.loads(told)
        assert rollout["state"] == "progressing"
        identity: str = rollout["id"]
        return identity

    def rollout(self, identity: str) -> dict[str, Any]:
        """The rollout as it stands."""
        shown: dict[str, Any] = self.get(f"/admin/rollouts/{identity}")
        return shown

    def end_of(self, identity: str, timeout_s: float) -> dict[str, Any]:
        """The rollout once it has ended by itself."""
        wait_for(lambda: self.rollout(identity)["state"] in ("promoted", "aborted"), timeout_s)
        return self.rollout(identity)

    def stable(self, name: str) -> int | None:
        """Number of the stable revision."""
        number: int | None = self.get(f"/admin/adapters/{name}")["stable"]
        return number

    def _has_loaded(self, served_name: str) -> bool:
        slots = [slot for replica in self.get("/admin/replicas")["data"] for slot in replica["slots"]]
        return any(slot["served_name"] == served_name and slot["state"] == "ready" for slot in slots)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A request that was answered; times are wall-clock times, as those of the registry are."""

    sent_at: float
    first_token_s: float
    done_at: float
    revision: str


class Clients:
    """Ask the quiz until the block ends, each question in a new conversation, and keep who answered.

    `failures` are errors that the gateway sent, `cut_off` the streams that ended in the middle without an error event.
    """

    def __init__(
        self, up: Up, model: str, *, clients: int = CLIENTS, rates: bool = False, asks_json: bool = False
    ) -> None:
        self.answers: list[Answered] = []
        self.failures: list[str] = []
        self.cut_off: list[str] = []
        self._up, self._model = up, model
        self._rates, self._asks_json = rates, asks_json
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(clients)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def answered(self, number: int) -> None:
        """Return when there are so many answers."""
        wait_for(lambda: len(self.answers) >= number, ANSWER_TIMEOUT_S)

    def sent_after(self, at: float, number: int = 2 * CLIENTS, timeout_s: float = ANSWER_TIMEOUT_S) -> list[Answered]:
        """The answers to what was sent after *at*, once there are so many."""

        def later() -> list[Answered]:
            found = [answer for answer in list(self.answers) if answer.sent_at > at]
            return found if len(found) >= number else []

        return wait_for(later, timeout_s)

    def last_of(self, revision: str, when: Callable[[Answered], float]) -> float:
        """When *revision* was last sent something, or last answered."""
        return max(when(answer) for answer in self.answers if answer.revision == revision)

    def _run(self, number: int) -> None:
        # a connection that a killed gateway drops is tried again, as every OpenAI program does
        with openai.OpenAI(base_url=f"{self._up.url}/v1", api_key="none", max_retries=5, timeout=120.0) as client:
            for turn in count(number):
                if self._stop.is_set():
                    return
                as_json = self._asks_json and turn % 2 == 0
                question = QUIZ[turn % (JSON_QUESTIONS if as_json else len(QUIZ))]
                try:
                    self._ask(client, question, f"client {number}, conversation {turn}", as_json=as_json)
                except openai.OpenAIError as exc:
                    self.failures.append(repr(exc))

    def _ask(self, client: openai.OpenAI, question: Question, user: str, *, as_json: bool) -> None:
        sent_at = time.time()
        wish: dict[str, Any] = {"response_format": {"type": "json_object"}} if as_json else {}
        stream = client.chat.completions.create(
            model=self._model,
            messages=messages(question, as_json=as_json),
            user=user,
            max_tokens=MOST_TOKENS,
            temperature=0,
            stream=True,
            **wish,
        )
        first_at = 0.0
        chunks = []
        try:
            for chunk in stream:
                first_at = first_at or time.time()
                chunks.append(chunk)
        except (openai.APIConnectionError, httpx2.TransportError) as exc:
            self.cut_off.append(repr(exc))
            return
        self.answers.append(
            Answered(sent_at=sent_at, first_token_s=first_at - sent_at, done_at=time.time(), revision=chunks[-1].model)
        )
        if self._rates:
            text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
            self._rate(client, chunks[-1].id, 1.0 if question.is_answered_by(text) else 0.0)

    def _rate(self, client: openai.OpenAI, completion_id: str, score: float) -> None:
        try:
            client.post("/feedback", cast_to=object, body={"completion_id": completion_id, "score": score})
        except openai.NotFoundError:
            return  # the rollout was over when it was answered: nobody asks for opinions
