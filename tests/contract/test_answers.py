"""Every engine's server answers a client of OpenAI's API in the same way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from engines.address import key_of, shown_address
from tests.contract.engine_host import EngineHost


@pytest.mark.parametrize("model", ["base", "one@1"])
def test_a_stream_says_what_the_whole_answer_says(host: EngineHost, model: str) -> None:
    choice = host.chat(model=model)["choices"][0]
    chunks = host.streamed("/v1/chat/completions", host.body(model=model))
    streamed = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    assert "".join(part["delta"].get("content") or "" for part in streamed) == choice["message"]["content"]
    assert [part["finish_reason"] for part in streamed if part.get("finish_reason")] == [choice["finish_reason"]]


def test_the_answer_names_the_model_that_was_asked(host: EngineHost, adapters: dict[str, Path]) -> None:
    for model in ("base", *adapters):
        assert host.chat(model=model)["model"] == model
        assert {chunk["model"] for chunk in host.streamed("/v1/chat/completions", host.body(model=model))} == {model}


def test_the_openai_sdk_reads_answers_and_streams(host: EngineHost) -> None:
    client: Any = OpenAI(
        base_url=f"{shown_address(host.engine.base_url)}/v1",
        api_key=key_of(host.engine.base_url) or "none",
        max_retries=0,
    )
    body = host.body()
    with client:
        answer = client.chat.completions.create(**body)
        assert answer.choices[0].message.content == "The capital of France is Paris."
        chunks = list(client.chat.completions.create(**body, stream=True, stream_options={"include_usage": True}))
        assert chunks[-1].usage.completion_tokens == answer.usage.completion_tokens
        assert next(iter(client.models.list())).id == "base"


def test_plain_completions_answer_too(host: EngineHost) -> None:
    body = {"model": "base", "prompt": "One, two, three,", "max_tokens": 5, "temperature": 0, "ignore_eos": True}
    whole = host.http.post("/v1/completions", json=body).json()
    assert whole["choices"][0]["text"].strip().startswith("four")
    assert whole["usage"]["completion_tokens"] == 5
    streamed = [chunk["choices"][0]["text"] for chunk in host.streamed("/v1/completions", body) if chunk["choices"]]
    assert "".join(streamed) == whole["choices"][0]["text"]


def test_logprobs_are_the_models_own_and_the_same_on_every_engine(host: EngineHost) -> None:
    content = host.chat(logprobs=True, top_logprobs=2)["choices"][0]["logprobs"]["content"]
    assert [entry["logprob"] for entry in content[:3]] == pytest.approx([-1.8643, -0.0198, -0.0114], abs=1e-3)
    for entry in content:
        assert entry["top_logprobs"]
        assert all(top["logprob"] <= entry["logprob"] + 1e-6 for top in entry["top_logprobs"])


def test_a_stop_string_ends_the_answer_before_itself(host: EngineHost) -> None:
    choice = host.chat(stop=" is")["choices"][0]
    assert choice["message"]["content"] == "The capital of France"
    assert choice["finish_reason"] == "stop"
    assert host.chat(max_tokens=2)["choices"][0]["finish_reason"] == "length"


def test_a_mixed_batch_gives_each_model_its_own_answer(host: EngineHost, adapters: dict[str, Any]) -> None:
    models = ["base", *adapters] * 4
    alone = {model: host.say(model=model) for model in set(models)}
    with ThreadPoolExecutor(len(models)) as pool:
        together = list(pool.map(lambda model: host.say(model=model), models))
    assert together == [alone[model] for model in models]
