"""Our own server honours every parameter or refuses it by name, which no other kind promises."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from openai import OpenAI

from engines.address import key_of, shown_address
from tests.contract.engine_host import EngineHost, wait_until
from tests.contract.kinds import OWN

pytestmark = pytest.mark.parametrize("kind", OWN, indirect=True)

TOKEN_OF_THE = 504


def test_a_stream_of_several_choices_says_what_the_whole_answer_says(host: EngineHost) -> None:
    for fields in ({}, {"n": 2, "temperature": 1.0, "seed": 3}, {"stop": ["Paris"]}):
        whole = host.chat(**fields)
        texts: dict[int, str] = {}
        reasons: dict[int, str] = {}
        for chunk in host.streamed("/v1/chat/completions", host.body(**fields)):
            for choice in chunk["choices"]:
                texts[choice["index"]] = texts.get(choice["index"], "") + choice["delta"].get("content", "")
                if choice["finish_reason"]:
                    reasons[choice["index"]] = choice["finish_reason"]
        assert texts == {choice["index"]: choice["message"]["content"] for choice in whole["choices"]}
        assert reasons == {choice["index"]: choice["finish_reason"] for choice in whole["choices"]}


def test_usage_counts_tokens_in_answers_and_streams(host: EngineHost) -> None:
    body = {"model": "base", "prompt": [[1, 2, 3], [4, 5]], "max_tokens": 4, "ignore_eos": True, "temperature": 0}
    whole = host.http.post("/v1/completions", json=body).json()
    counted = {name: whole["usage"][name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    assert counted == {"prompt_tokens": 5, "completion_tokens": 8, "total_tokens": 13}
    chunks = host.streamed("/v1/completions", body | {"stream_options": {"include_usage": True}})
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 13
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert all("usage" not in chunk for chunk in host.streamed("/v1/completions", body))


def test_every_chunk_has_the_usage_so_far_where_that_is_asked_for(host: EngineHost) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = host.streamed("/v1/chat/completions", host.body(stream_options=options, max_tokens=6, ignore_eos=True))
    generated = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert generated == sorted(generated)
    assert (generated[0], generated[-1]) == (1, 6)


def test_a_conversation_that_is_too_long_is_refused_in_words_that_clients_know(host: EngineHost) -> None:
    messages = [{"role": "user", "content": "word " * 600}]
    error = host.http.post("/v1/chat/completions", json=host.body(messages=messages)).json()["error"]
    assert error["message"].startswith("This model's maximum context length is 512 tokens. However, your messages ")
    assert error["message"].endswith(": the prompt is too long. Please reduce the length of the messages.")


def test_an_answer_is_as_long_as_asked_and_its_template_gets_what_the_client_sends(host: EngineHost) -> None:
    answer = host.chat(min_tokens=40, max_tokens=40, chat_template_kwargs={"enable_thinking": False})
    assert answer["usage"]["completion_tokens"] == 40


def test_logprobs_are_those_of_the_tokens(host: EngineHost) -> None:
    content = host.chat(logprobs=True, top_logprobs=3)["choices"][0]["logprobs"]["content"]
    assert "".join(entry["token"] for entry in content) == "The capital of France is Paris."
    for entry in content:
        tops = entry["top_logprobs"]
        assert (tops[0]["token"], tops[0]["logprob"]) == (entry["token"], entry["logprob"])
        assert bytes(entry["bytes"]).decode() == entry["token"]
        assert all(first["logprob"] >= second["logprob"] for first, second in pairwise(tops))
    assert host.chat()["choices"][0]["logprobs"] is None


def test_completions_report_logprobs_with_offsets(host: EngineHost) -> None:
    body = {"model": "base", "prompt": "One, two, three,", "max_tokens": 5, "temperature": 0, "logprobs": 2}
    choice = host.http.post("/v1/completions", json=body).json()["choices"][0]
    logprobs = choice["logprobs"]
    assert "".join(logprobs["tokens"]) == choice["text"]
    assert logprobs["text_offset"][1] == len(logprobs["tokens"][0])
    assert [len(top) for top in logprobs["top_logprobs"]] == [2] * 5
    chunks = host.streamed("/v1/completions", body)
    parts = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    assert [token for part in parts for token in part["tokens"]] == logprobs["tokens"]
    assert [offset for part in parts for offset in part["text_offset"]] == logprobs["text_offset"]


def test_a_seed_repeats_an_answer_and_n_answers_differ(host: EngineHost) -> None:
    fields = {"temperature": 1.2, "top_p": 0.95, "seed": 11, "n": 3, "max_tokens": 20}
    first, second = (host.chat("Tell me a story.", **fields)["choices"] for _ in range(2))
    assert first == second
    assert len({choice["message"]["content"] for choice in first}) == 3


def test_penalties_and_bias_change_the_answer(host: EngineHost) -> None:
    assert host.say(frequency_penalty=2.0, presence_penalty=2.0, max_tokens=40, ignore_eos=True) != host.say(
        max_tokens=40, ignore_eos=True
    )
    with OpenAI(
        base_url=f"{shown_address(host.engine.base_url)}/v1", api_key=key_of(host.engine.base_url) or "none"
    ) as client:
        biased = client.completions.create(
            model="base", prompt="One, two,", temperature=0, max_tokens=3, logit_bias={str(TOKEN_OF_THE): 100}
        )
    assert biased.choices[0].text == "TheTheThe"


def test_models_lists_the_base_and_the_adapters(host: EngineHost, adapters: dict[str, Any]) -> None:
    entries = {entry["id"]: entry for entry in host.http.get("/v1/models").json()["data"]}
    assert set(entries) == {"base", *adapters}
    assert entries["one@1"]["parent"] == "base"
    assert entries["one@1"]["root"] == str(adapters["one@1"])
    assert host.http.get("/v1/models/one@1").json() == entries["one@1"]


@pytest.mark.parametrize(
    ("fields", "status", "param", "code"),
    [
        ({"temperature": 9}, 400, "temperature", "invalid_value"),
        ({"functions": [{}]}, 400, "functions", "unsupported_parameter"),
        ({"messages": "hi"}, 400, "messages", "invalid_value"),
        ({"top_logprobs": 2}, 400, "top_logprobs", "invalid_value"),
        ({"n": 1000}, 400, "n", "invalid_value"),
        ({"logit_bias": {"999999": 1}}, 400, "logit_bias", "invalid_value"),
        ({"model": "ghost@1"}, 404, "model", "model_not_found"),
        ({"max_tokens": 4000}, 400, "max_tokens", "context_length_exceeded"),
        ({"messages": [{"role": "user", "content": "word " * 600}]}, 400, None, "context_length_exceeded"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(
    host: EngineHost, fields: dict[str, Any], status: int, param: str | None, code: str
) -> None:
    answer = host.http.post("/v1/chat/completions", json=host.body() | fields)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == (param, code)
    assert error.keys() == {"message", "type", "param", "code"}


def test_an_unknown_route_has_the_same_envelope(host: EngineHost) -> None:
    for method, path, status in (("GET", "/v1/nothing", 404), ("GET", "/v1/completions", 405)):
        answer = host.http.request(method, path)
        assert answer.status_code == status
        assert answer.json()["error"].keys() == {"message", "type", "param", "code"}


def test_a_client_that_leaves_frees_its_place(host: EngineHost) -> None:
    body = host.body(max_tokens=400, ignore_eos=True, n=2)
    with host.http.stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as answer:
        lines = answer.iter_lines()
        next(lines)
        assert host.metric("engine_requests_running") == 2
    wait_until(lambda: host.metric("engine_requests_running") == 0)
    with pytest.raises(Exception, match="timed out"):
        host.http.post("/v1/chat/completions", json=body, timeout=0.5)
    wait_until(lambda: host.metric("engine_requests_running") == 0)


def test_a_stop_string_may_span_tokens(host: EngineHost) -> None:
    choice = host.chat(stop=" France is")["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("The capital of", "stop")


def test_tokens_of_a_prompt_and_of_messages_are_those_that_an_answer_counts(host: EngineHost) -> None:
    question = host.body()
    of_messages = host.http.post("/tokenize", json={"model": "base", "messages": question["messages"]}).json()
    assert of_messages["count"] == len(of_messages["tokens"]) == host.chat()["usage"]["prompt_tokens"]
    prompt = "One, two, three,"
    of_text = host.http.post("/tokenize", json={"model": "one@1", "prompt": prompt}).json()
    body = {"model": "base", "prompt": of_text["tokens"], "max_tokens": 5, "temperature": 0}
    by_tokens, by_text = (
        host.http.post("/v1/completions", json=body | {"prompt": given}).json() for given in (of_text["tokens"], prompt)
    )
    assert by_tokens["choices"] == by_text["choices"]
    assert of_text["max_model_len"] == 512


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"model": "ghost", "prompt": "hi"}, 404, "model"),
        ({"model": "base"}, 400, "body"),
        ({"model": "base", "prompt": "hi", "messages": [{"role": "user", "content": "hi"}]}, 400, "body"),
        ({"model": "base", "prompt": "hi", "stream": True}, 400, "stream"),
    ],
)
def test_what_cannot_be_tokenized_is_refused_by_name(
    host: EngineHost, body: dict[str, Any], status: int, param: str
) -> None:
    answer = host.http.post("/tokenize", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
