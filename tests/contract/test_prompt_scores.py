"""Our own server gives a prompt's logprobs: by `echo` in OpenAI's form, by `prompt_logprobs` in vLLM's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.contract.engine_host import EngineHost
from tests.contract.kinds import OWN

pytestmark = pytest.mark.parametrize("kind", OWN, indirect=True)

TEXT = "The capital of France is Paris — the largest 🗼 city."


@pytest.fixture(scope="module")
def expected(model_folder: Path) -> tuple[list[int], list[float], list[float]]:
    """The tokens of the text; by plain transformers their logprobs from the second one on, and the likeliest ones'."""
    tokens = AutoTokenizer.from_pretrained(model_folder)(TEXT)["input_ids"]
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        logprobs = torch.log_softmax(model(input_ids=torch.tensor([tokens])).logits[0, :-1], -1)
    own = logprobs[range(len(tokens) - 1), tokens[1:]]
    return tokens, own.tolist(), logprobs.max(-1).values.tolist()


def completion(host: EngineHost, **fields: Any) -> dict[str, Any]:
    body = {"model": "base", "prompt": TEXT, "echo": True, "logprobs": 1, "temperature": 0} | fields
    answer = host.http.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_log_likelihood_is_that_of_a_plain_forward_pass(
    host: EngineHost, expected: tuple[list[int], list[float], list[float]]
) -> None:
    tokens, own, likeliest = expected
    whole = completion(host, max_tokens=0)
    choice = whole["choices"][0]
    assert (choice["text"], choice["finish_reason"], whole["usage"]["completion_tokens"]) == (TEXT, "length", 0)
    logprobs = choice["logprobs"]
    assert (logprobs["token_logprobs"][0], logprobs["top_logprobs"][0]) == (None, None)
    assert logprobs["token_logprobs"][1:] == pytest.approx(own, abs=2e-3)
    assert [max(top.values()) for top in logprobs["top_logprobs"][1:]] == pytest.approx(likeliest, abs=2e-3)
    assert len(logprobs["tokens"]) == len(tokens)
    for offset, token in zip(logprobs["text_offset"], logprobs["tokens"], strict=True):
        assert token.startswith("bytes:") or TEXT[offset:].startswith(token)
    assert completion(host, prompt=tokens, max_tokens=0)["choices"] == whole["choices"]


def test_prompts_in_a_list_have_each_their_own_and_an_answer_behind(
    host: EngineHost, expected: tuple[list[int], list[float], list[float]]
) -> None:
    tokens, own, _ = expected
    found = completion(host, prompt=[tokens[:6], tokens, [tokens[0]]], max_tokens=1, n=2)
    assert [choice["index"] for choice in found["choices"]] == list(range(6))
    for choice in found["choices"]:
        length = (6, len(tokens), 1)[choice["index"] // 2]
        logprobs = choice["logprobs"]
        assert logprobs["token_logprobs"][0] is None
        assert logprobs["token_logprobs"][1:length] == pytest.approx(own[: length - 1], abs=2e-3)
        assert [len(values) for values in logprobs.values()] == [length + 1] * 4
        assert choice["text"].startswith("The")
        answer = TEXT if length == len(tokens) else "".join(logprobs["tokens"][:length])
        assert logprobs["text_offset"][length] == len(answer)
    assert found["usage"]["completion_tokens"] == 6


def test_a_stream_begins_with_the_prompt(host: EngineHost) -> None:
    body = {"model": "base", "prompt": "One, two,", "echo": True, "logprobs": 0, "temperature": 0, "max_tokens": 4}
    parts = [chunk["choices"][0] for chunk in host.streamed("/v1/completions", body)]
    whole = completion(host, **body)["choices"][0]
    assert parts[0]["text"].startswith("One, two,")
    assert "".join(part["text"] for part in parts) == whole["text"]
    for member in ("tokens", "text_offset"):
        assert [each for part in parts for each in part["logprobs"][member]] == whole["logprobs"][member]
    plain = completion(host, **body | {"logprobs": None})["choices"][0]
    assert (plain["text"], plain["logprobs"]) == (whole["text"], None)


def test_a_whole_context_has_logprobs_and_one_token_more_is_refused(host: EngineHost) -> None:
    full = completion(host, prompt=[7] * 512, max_tokens=0)
    assert len(full["choices"][0]["logprobs"]["tokens"]) == 512
    body = {"model": "base", "prompt": [7] * 513, "echo": True, "logprobs": 1, "max_tokens": 0}
    error = host.http.post("/v1/completions", json=body).json()["error"]
    assert error["code"] == "context_length_exceeded"
    without = host.http.post("/v1/completions", json={"model": "base", "prompt": "a", "max_tokens": 0}).json()["error"]
    assert without["param"] == "max_tokens"
    assert "echo" in without["message"]


def test_prompt_logprobs_have_the_form_of_vllm(
    host: EngineHost, expected: tuple[list[int], list[float], list[float]]
) -> None:
    tokens, own, _ = expected
    choice = completion(host, echo=False, logprobs=None, prompt_logprobs=2, max_tokens=1)["choices"][0]
    assert choice["prompt_logprobs"][0] is None
    for token, logprob, entries in zip(tokens[1:], own, choice["prompt_logprobs"][1:], strict=True):
        assert entries[str(token)]["logprob"] == pytest.approx(logprob, abs=2e-3)
        ranks = {entry["rank"] for entry in entries.values()}
        assert ranks == {1, 2, entries[str(token)]["rank"]}
    chat = host.chat(prompt_logprobs=0)
    assert len(chat["prompt_logprobs"]) == chat["usage"]["prompt_tokens"]
    refused = host.http.post("/v1/chat/completions", json=host.body(prompt_logprobs=1, stream=True)).json()["error"]
    assert "prompt_logprobs" in refused["message"]


def test_the_adapter_of_a_request_decides_its_prompts_logprobs(host: EngineHost) -> None:
    scored = {
        model: completion(host, model=model, max_tokens=0)["choices"][0]["logprobs"]["token_logprobs"][1:]
        for model in ("base", "one@1", "two@1", "base")
    }
    assert len({tuple(values) for values in scored.values()}) == 3
