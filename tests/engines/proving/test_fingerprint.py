"""The probes are sent as callers would send them, and every kind of reply is handled."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from engines.errors import EngineError, EngineUnreachable
from engines.proving.fingerprint import prove, read_fingerprint
from engines.proving.proof import Proof
from registry.contracts.fingerprint import write_fingerprint
from tests.conftest import made_up_fingerprint
from tests.stub_engine import Script, StubEngine, StubHandler, answer

CHAT = "/v1/chat/completions"
RENDER = "/v1/chat/completions/render"
FIELDS = {"model": "base:support@1"}


def chat_body(text: str = "a", logprob: float = -0.5, prompt_tokens: int = 2, **changed: Any) -> bytes:
    """The answer of a server that computes the made-up fingerprint."""
    entry = {"token": text, "logprob": logprob, "top_logprobs": [{"token": "b", "logprob": -2.0}]}
    choice = {"message": {"content": text}, "logprobs": {"content": [entry]}} | changed
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": prompt_tokens}}).encode()


def by_path(chat: Script, render: Script | None = None) -> Script:
    """Answers each of the two paths by its own script; without one, rendering does not exist."""

    def script(handler: StubHandler) -> None:
        scripts = {CHAT: chat, RENDER: render or answer(404, b'{"detail": "Not Found"}')}
        with suppress(BrokenPipeError, ConnectionResetError):  # one probe's failure ends the others
            scripts[handler.path](handler)

    return script


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_fingerprint(made_up_fingerprint("0" * 64), tmp_path)
    return tmp_path


@pytest.fixture
def ask(folder: Path) -> Iterator[Callable[..., tuple[Proof, list[dict[str, Any]]]]]:
    """The proof by a server with this script, and the bodies that it was sent."""
    stubs: list[StubEngine] = []

    def run(script: Script) -> tuple[Proof, list[dict[str, Any]]]:
        stubs.append(StubEngine(script))
        proof = asyncio.run(prove(stubs[-1].url, FIELDS, folder, 0.01))
        return proof, [json.loads(body) for body in stubs[-1].bodies]

    yield run
    for stub in stubs:
        stub.close()


Ask = Callable[[Script], tuple[Proof, list[dict[str, Any]]]]


def test_both_packages_read_the_same_file(folder: Path) -> None:
    written = made_up_fingerprint("0" * 64)
    assert read_fingerprint(folder).model_dump() == written.model_dump()


def test_a_server_is_asked_as_callers_ask_it_in_the_words_of_every_kind(ask: Ask) -> None:
    proof, bodies = ask(by_path(answer(200, chat_body())))
    assert proof.passed and (proof.compared, proof.recorded) == (4, 4)
    assert len(bodies) == 5, "four probes, and once the question whether it renders"
    for body in bodies:
        assert set(body) == {"model", "messages", "temperature", "max_tokens", "logprobs", "top_logprobs"}
        assert (body["model"], body["temperature"], body["max_tokens"]) == ("base:support@1", 0, 1)


def test_tokens_as_the_vocabulary_spells_them_are_the_same_tokens(folder: Path, ask: Ask) -> None:
    fingerprint = made_up_fingerprint("0" * 64)
    token = fingerprint.probes[0].tokens[0].model_copy(update={"text": " a", "piece": "Ġa"})
    probe = fingerprint.probes[0].model_copy(update={"tokens": [token]})
    write_fingerprint(fingerprint.model_copy(update={"probes": [probe] * 4}), folder)
    for text, passes in ((" a", True), ("Ġa", True), ("a", False)):
        assert ask(by_path(answer(200, chat_body(text))))[0].passed is passes


def test_where_a_server_shows_the_prompt_s_tokens_they_must_be_the_trainer_s(ask: Ask) -> None:
    same = ask(by_path(answer(200, chat_body()), answer(200, b'{"token_ids": [1, 2]}')))[0]
    assert same.passed
    other = ask(by_path(answer(200, chat_body()), answer(200, b'{"token_ids": [1, 3]}')))[0]
    assert not other.passed and not other.prompt_tokens_equal


def test_where_showing_them_is_switched_off_their_number_decides(ask: Ask) -> None:
    proof, bodies = ask(by_path(answer(200, chat_body()), answer(403, b'{"error": {"message": "disabled"}}')))
    assert proof.passed and proof.prompt_tokens_equal
    assert len(bodies) == 5


def test_a_server_that_has_too_much_to_do_is_asked_again(ask: Ask) -> None:
    refusals = [answer(429, b'{"error": {"message": "busy"}}') for _ in range(3)]

    def chat(handler: StubHandler) -> None:
        script = refusals.pop() if refusals else answer(200, chat_body())
        script(handler)

    proof, bodies = ask(by_path(chat))
    assert proof.passed
    assert len(bodies) == 8


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        (answer(500, b'{"error": {"message": "boom"}}'), EngineUnreachable, "answered 500: boom"),
        (answer(404, b'{"error": {"message": "no such model"}}'), EngineError, "refused: .* 404: no such model"),
        (answer(200, b"not json"), EngineError, "no logprobs as OpenAI does"),
        (answer(200, chat_body(logprobs=None)), EngineError, "no logprobs as OpenAI does"),
        (answer(200, b'{"choices": []}'), EngineError, "no logprobs as OpenAI does"),
    ],
)
def test_a_server_that_cannot_be_asked_is_an_error_and_no_verdict(
    ask: Ask, script: Script, error: type[EngineError], message: str
) -> None:
    with pytest.raises(error, match=message):
        ask(by_path(script))
