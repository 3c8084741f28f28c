"""An OpenAI client gets the revision that it names from every engine, and 404 for a name that does not exist."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from engines.catalog import adapter_paths
from gateway.http.description.relayed_paths import RELAYED
from gateway.routing.paths import HOT_PATHS
from gateway.settings import GatewaySettings
from registry.artifacts import folder_digest
from registry.contracts.fingerprint import write_fingerprint
from registry.database import Registry
from registry.publishing.publish import publish
from registry.states import ReplicaState, SlotState
from registry.types import Base, Replica, RevisionDraft, Slot
from tests.conftest import made_up_fingerprint
from tests.contract.engine_host import EngineHost
from tests.gateway.served import ServedGateway

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": QUESTION, "max_tokens": 12, "temperature": 0},
    "/v1/completions": {"prompt": "The capital of France is", "max_tokens": 12, "temperature": 0},
    "/v1/messages": {"messages": QUESTION, "max_tokens": 12, "temperature": 0},
    "/v1/messages/count_tokens": {"messages": QUESTION},
    "/v1/responses/input_tokens": {"input": QUESTION},
    "/v1/responses": {"input": QUESTION, "max_output_tokens": 12, "temperature": 0},
    "/tokenize": {"prompt": "The capital of France is"},
}
AT_ONCE = 8
"""Requests that an engine gets together where there are many."""
COUNTS = ("/tokenize", "/v1/messages/count_tokens", "/v1/responses/input_tokens")
"""Paths on which an adapter's answer is its base model's."""
NOTHING: dict[str, tuple[Any, ...]] = {
    # OpenAI's
    "best_of": (1,),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "metadata": ({}, {"team": "blue"}),
    "modalities": (["text"],),
    "n": (1,),
    "parallel_tool_calls": (True, False),
    "presence_penalty": (0.0,),
    "prompt_cache_key": ("a",),
    "prompt_cache_retention": ("24h",),
    "reasoning_effort": ("low", "none", "medium", "high"),
    "response_format": ({"type": "text"},),
    "safety_identifier": ("a",),
    "seed": (7,),
    "service_tier": ("auto", "default"),
    "stop": ("", [], [""]),
    "store": (True, False),
    "stream": (False,),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_p": (1,),
    "user": ("a",),
    "verbosity": ("medium",),
    # vLLM's, SGLang's and those of others
    "add_generation_prompt": (True,),
    "bad_words": ([],),
    "chat_template_kwargs": ({}, {"enable_thinking": False}),
    "continue_final_message": (False,),
    "documents": ([],),
    "early_stopping": (False,),
    "echo": (False,),
    "ignore_eos": (False,),
    "include_reasoning": (True, False),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1, 1.0),
    "min_p": (0, 0.0),
    "min_tokens": (0,),
    "priority": (0,),
    "repetition_penalty": (1, 1.0),
    "return_token_ids": (False,),
    "separate_reasoning": (True, False),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "stop_token_ids": ([],),
    "top_k": (0, -1),
    "use_beam_search": (False,),
}
"""Field -> values that ask for nothing, or for nothing that changes an answer; null is one of each field."""
SPELT_OTHERWISE = {"lmdeploy": frozenset({'reasoning_effort: "none"', "top_k: -1"})}
"""Kind -> values that it refuses by name, as docs/engines.md says: it spells them in another way."""
CHATS_ALONE = frozenset({"chat_template_kwargs", "logprobs", "modalities", "reasoning_effort"})
"""Fields that have such values in chats only."""

NAMED_STOP = {"lmdeploy": ("end_turn", None)}
"""Kinds that do not report which stop sequence was met."""


@pytest.fixture
def gateway(
    host: EngineHost, sqlite_registry: Registry, model_folder: Path, adapters: dict[str, Path], tmp_path: Path
) -> Iterator[httpx2.Client]:
    """A gateway whose only replica is the engine, with both adapters published and loaded."""
    digest = folder_digest(model_folder)
    base = Base(name="base", path=str(model_folder), digest=digest, licence="apache-2.0", created_at=1.0)
    sqlite_registry.bases.enter(base)
    for served_name, folder in adapters.items():
        name = served_name.partition("@")[0]
        copy = tmp_path / name
        shutil.copytree(folder, copy)
        write_fingerprint(made_up_fingerprint(digest), copy)
        publish(sqlite_registry, copy, RevisionDraft(adapter=name, base="base", owner="me"))
    replica = Replica(
        id="r0",
        base="base",
        engine=host.kind,
        url=host.engine.base_url,
        state=ReplicaState.READY,
        capacity=3,
        slots=tuple(Slot(served_name=name, state=SlotState.READY) for name in adapters),
        message="",
        started_at=0.0,
        heartbeat_at=0.0,
        paths=tuple(sorted(host.engine.traits.paths)),
    )
    sqlite_registry.replicas.report(replica)
    with ServedGateway(GatewaySettings(), sqlite_registry) as served:
        yield served.client


def test_each_name_is_answered_by_its_own_weights(
    gateway: httpx2.Client, host: EngineHost, adapters: dict[str, Path]
) -> None:
    for model in ("base", *adapters):
        answer = gateway.post("/v1/chat/completions", json=host.body() | {"model": model})
        assert answer.status_code == 200
        body = answer.json()
        assert body["choices"][0]["message"]["content"] == host.say(model=model)
        assert body["model"] == answer.headers["x-lorry-revision"] == model


def test_every_path_that_an_engine_offers_is_answered_by_the_weights_that_are_named(
    gateway: httpx2.Client, host: EngineHost, adapters: dict[str, Path]
) -> None:
    by_adapters = adapter_paths(host.kind)
    for path, through in sorted(answered_paths(host).items()):
        texts: dict[str, object] = {}
        for model in ("base", *adapters):
            answer = gateway.post(path, json=REQUESTS[path] | {"model": model})
            if model == "base" or through in by_adapters:
                assert (answer.status_code, answer.headers["x-lorry-revision"]) == (200, model), (path, answer.text)
                texts[model] = words_of(path, answer.json())
            else:
                assert answer.json()["error"]["code"] == "endpoint_not_offered"
        assert all(texts.values()), path
        assert len(set(map(str, texts.values()))) == (1 if path in COUNTS else len(texts)), (path, texts)


def test_requests_answers_and_streams_have_the_form_that_the_description_says(
    gateway: httpx2.Client, host: EngineHost
) -> None:
    for path in sorted(answered_paths(host)):
        row, body = RELAYED[path], REQUESTS[path] | {"model": "base"}
        assert isinstance(row.body, type)
        row.body.model_validate_json(json.dumps(body))
        answer = gateway.post(path, json=body)
        row.answer.model_validate_json(answer.content)
        if row.event is None:
            continue
        stream = gateway.post(path, json=body | {"stream": True})
        assert stream.headers["content-type"].startswith("text/event-stream"), path
        events = [line.removeprefix("data:").strip() for line in stream.text.splitlines() if line.startswith("data:")]
        assert len(events) > 2, path
        for event in events:
            if event != "[DONE]":
                row.event.model_validate_json(event)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_what_asks_for_nothing_is_taken_and_changes_nothing(
    gateway: httpx2.Client, host: EngineHost, path: str
) -> None:
    body = REQUESTS[path] | {"model": "base", "max_tokens": 2}
    plain = words_of(path, gateway.post(path, json=body).json())
    fields = {name: values for name, values in NOTHING.items() if "chat" in path or name not in CHATS_ALONE}
    asked = {
        f"{name}: {json.dumps(value)}": {name: value} for name, values in fields.items() for value in (*values, None)
    }
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = dict(
            zip(asked, pool.map(lambda more: gateway.post(path, json=body | more), asked.values()), strict=True)
        )
    refused = {
        field: answer.text[:200]
        for field, answer in answers.items()
        if answer.status_code != 200 or words_of(path, answer.json()) != plain
    }
    assert refused.keys() == SPELT_OTHERWISE.get(host.kind, frozenset()) & asked.keys(), refused
    everything = {name: values[0] for name, values in fields.items()}
    answer = gateway.post(path, json=everything | body)
    assert (answer.status_code, words_of(path, answer.json())) == (200, plain), answer.text


def test_paths_that_an_engine_does_not_offer_are_refused_before_it_sees_them(
    gateway: httpx2.Client, host: EngineHost
) -> None:
    relayed = {kind.path for kind in HOT_PATHS.values() if not (kind.is_multipart or kind.through)}
    others = relayed - host.engine.traits.paths
    assert "/v1/embeddings" in others
    for path in others:
        assert gateway.post(path, json={"model": "base"}).json()["error"]["code"] == "endpoint_not_offered"


def answered_paths(host: EngineHost) -> dict[str, str]:
    """Every path that the engine answers -> the path by which it does: the same, or that of the translation."""
    answering = {kind.path: kind.through or kind.path for kind in HOT_PATHS.values()}
    return {path: through for path, through in answering.items() if through in host.engine.traits.paths}


def words_of(path: str, body: dict[str, Any]) -> object:
    """The text of an answer on this path."""
    match path:
        case "/v1/chat/completions":
            return body["choices"][0]["message"]["content"]
        case "/v1/completions":
            return body["choices"][0]["text"]
        case "/v1/messages":
            return [part["text"] for part in body["content"]]
        case "/v1/responses":
            return [part["text"] for item in body["output"] for part in item.get("content") or ()]
        case "/v1/messages/count_tokens" | "/v1/responses/input_tokens":
            return body["input_tokens"]
    return body["tokens"]


def test_an_unknown_name_is_404_whatever_the_engine_would_say(gateway: httpx2.Client, host: EngineHost) -> None:
    answer = gateway.post("/v1/chat/completions", json=host.body() | {"model": "ghost@1"})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


def test_a_message_names_the_stop_sequence_and_its_count_is_its_usage(gateway: httpx2.Client, host: EngineHost) -> None:
    body = {"model": "base", "system": "Be brief.", "messages": QUESTION}
    asked = body | {"max_tokens": 12, "temperature": 0}
    whole = gateway.post("/v1/messages", json=asked).json()
    words = whole["content"][0]["text"].split()
    cut = gateway.post("/v1/messages", json=asked | {"stop_sequences": ["\u2603", words[1]]}).json()
    assert (cut["stop_reason"], cut["stop_sequence"]) == NAMED_STOP.get(host.kind, ("stop_sequence", words[1]))
    stream = gateway.post("/v1/messages", json=asked | {"stream": True}).text
    first = json.loads(stream.partition("data: ")[2].partition("\n")[0])["message"]["usage"]
    prompt = first["input_tokens"] + (first["cache_read_input_tokens"] or 0)
    assert (prompt > 0) == (host.kind != "lmdeploy")
    if "/tokenize" in host.engine.traits.paths:
        counted = gateway.post("/v1/messages/count_tokens", json=body).json()
        usage = whole["usage"]
        assert counted["input_tokens"] == usage["input_tokens"] + (usage["cache_read_input_tokens"] or 0)
        thinking = {"thinking": {"type": "disabled"}}
        assert gateway.post("/v1/messages/count_tokens", json=body | thinking).status_code == 200


def test_the_count_of_a_response_is_its_usage(gateway: httpx2.Client, host: EngineHost) -> None:
    body = {"model": "base", "instructions": "Be brief.", "input": QUESTION}
    whole = gateway.post("/v1/responses", json=body | {"max_output_tokens": 4}).json()
    if "/tokenize" in host.engine.traits.paths:
        counted = gateway.post("/v1/responses/input_tokens", json=body).json()
        assert counted == {"object": "response.input_tokens", "input_tokens": whole["usage"]["input_tokens"]}
