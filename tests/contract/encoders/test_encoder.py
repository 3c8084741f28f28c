"""Lorry's own engine with a real encoder and a made-up cross-encoder: what their clients get."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from engines.catalog import build_engine
from engines.errors import AdapterLoadFailed, EngineStartFailed, SettingRefused
from engines.settings import EngineSettings
from tests.contract.engine_host import EngineHost
from tests.tiny_encoder import save_encoder, save_reranker

pytestmark = pytest.mark.engine

RECORDED = json.loads((Path(__file__).parent / "minilm.json").read_text())
CAT, KITTEN, RATES = RECORDED["sentences"][:3]
RERANKING = ("/v1/rerank", "/v2/rerank", "/rerank")

Settings = Callable[..., EngineSettings]


@pytest.fixture(scope="module")
def settings_of(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of Lorry's own engine for a model that does not chat."""

    def make(folder: Path, **fields: Any) -> EngineSettings:
        log = tmp_path_factory.mktemp("log") / "engine.log"
        known = {"base_path": folder, "base_name": "base", "log_path": log, "max_adapters": 0}
        return EngineSettings.model_validate(known | fields)

    return make


@pytest.fixture(scope="module")
def encoder(settings_of: Settings, encoder_folder: Path) -> Iterator[EngineHost]:
    """A server with the real encoder."""
    running = EngineHost(settings_of(encoder_folder, max_batch=2, max_queue=6), {})
    yield running
    running.close()


def vectors_of(answer: httpx2.Response) -> NDArray[np.float64]:
    assert answer.status_code == 200, answer.text
    return np.array([one["embedding"] for one in answer.json()["data"]])


def embed(host: EngineHost, **fields: Any) -> httpx2.Response:
    return host.http.post("/v1/embeddings", json={"model": "base"} | fields)


def refusal(answer: httpx2.Response) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


def test_vectors_are_those_of_sentence_transformers(encoder: EngineHost) -> None:
    expected = np.array(RECORDED["vectors"])
    np.testing.assert_allclose(vectors_of(embed(encoder, input=RECORDED["sentences"])), expected, atol=1e-4)
    for sentence, vector in zip(RECORDED["sentences"], expected, strict=True):
        np.testing.assert_allclose(vectors_of(embed(encoder, input=sentence))[0], vector, atol=1e-4)


def test_texts_of_one_meaning_are_near_and_are_ranked_first(encoder: EngineHost) -> None:
    cat, kitten, rates = vectors_of(embed(encoder, input=[CAT, KITTEN, RATES]))
    assert cat @ kitten > 0.5
    assert cat @ rates < 0.1
    for path in RERANKING:
        body = {"model": "base", "query": CAT, "documents": [RATES, {"text": KITTEN, "id": 7}]}
        told = encoder.http.post(path, json=body).json()
        assert [one["index"] for one in told["results"]] == [1, 0]
        assert told["results"][0]["document"] == {"text": KITTEN, "id": 7}
        np.testing.assert_allclose(
            [one["relevance_score"] for one in told["results"]], [cat @ kitten, cat @ rates], atol=1e-5
        )


def test_base64_dimensions_tokens_and_usage_agree(encoder: EngineHost) -> None:
    plain = vectors_of(embed(encoder, input=CAT))[0]
    packed = embed(encoder, input=CAT, encoding_format="base64").json()["data"][0]["embedding"]
    np.testing.assert_allclose(np.frombuffer(base64.b64decode(packed), "<f4"), plain, rtol=1e-6)
    short = vectors_of(embed(encoder, input=CAT, dimensions=64))[0]
    np.testing.assert_allclose(short, plain[:64] / np.linalg.norm(plain[:64]), rtol=1e-5)
    asked = encoder.http.post("/tokenize", json={"model": "base", "prompt": CAT}).json()
    told = embed(encoder, input=asked["tokens"])
    np.testing.assert_allclose(vectors_of(told)[0], plain, atol=1e-6)
    assert told.json()["usage"] == {"prompt_tokens": asked["count"], "total_tokens": asked["count"]}


def test_a_long_list_and_many_clients_are_answered_in_few_passes(encoder: EngineHost) -> None:
    texts = [f"{CAT} {number}" for number in range(2048)]
    passes, read = (encoder.metric(name) for name in ("engine_step_seconds_count", "engine_texts_total"))
    with ThreadPoolExecutor(6) as pool:
        whole = pool.submit(lambda: vectors_of(embed(encoder, input=texts)))
        singles = list(pool.map(lambda place: vectors_of(embed(encoder, input=texts[place]))[0], range(0, 2048, 64)))
    np.testing.assert_allclose(whole.result()[::64], singles, atol=1e-5)
    assert encoder.metric("engine_texts_total") - read == 2048 + 32
    assert encoder.metric("engine_step_seconds_count") - passes < 200


def test_what_cannot_be_answered_is_named(encoder: EngineHost) -> None:
    assert refusal(embed(encoder, input=CAT, dimensions=385)) == (400, "invalid_value", "dimensions")
    assert refusal(embed(encoder, input="")) == (400, "invalid_value", "input")
    assert refusal(embed(encoder, input=["a", "word " * 300])) == (400, "context_length_exceeded", "input[1]")
    assert vectors_of(embed(encoder, input="word " * 300, truncate_prompt_tokens=-1)).shape == (1, 384)
    assert refusal(embed(encoder, input=CAT, model="other")) == (404, "model_not_found", "model")
    assert refusal(embed(encoder, input=CAT, prompt_name="query")) == (400, "invalid_value", "prompt_name")
    assert refusal(encoder.http.post("/v1/chat/completions", json=encoder.body())) == (404, "not_found", None)
    chat = {"model": "base", "messages": [{"role": "user", "content": CAT}]}
    assert refusal(encoder.http.post("/tokenize", json=chat)) == (400, "invalid_value", "messages")


def test_the_server_offers_what_the_model_is_for_and_no_adapter(
    encoder: EngineHost, settings_of: Settings, encoder_folder: Path, tmp_path: Path
) -> None:
    assert encoder.engine.traits.paths == {"/v1/embeddings", "/tokenize", *RERANKING}
    (tmp_path / "adapter_config.json").write_text('{"r": 8}')
    with pytest.raises(AdapterLoadFailed, match="all 0 places"):
        encoder.load("one@1", tmp_path)
    with pytest.raises(SettingRefused, match="max_adapters = 4, only 0"):
        build_engine(settings_of(encoder_folder, max_adapters=4))


def test_a_client_above_the_queue_is_told_to_come_again(encoder: EngineHost) -> None:
    async def crowd() -> list[int]:
        headers, url = dict(encoder.http.headers), str(encoder.http.base_url)
        limits = httpx2.Limits(max_connections=80)
        async with httpx2.AsyncClient(
            base_url=url, headers=headers, timeout=120, limits=limits, trust_env=False
        ) as http:
            body = {"model": "base", "input": [CAT * 8] * 32}
            answers = await asyncio.gather(*[http.post("/v1/embeddings", json=body) for _ in range(24)])
            return [answer.status_code for answer in answers]

    told = asyncio.run(crowd())
    assert set(told) == {200, 429}
    assert told.count(200) >= 8
    assert encoder.metric("engine_requests_rejected_total") == told.count(429)


def test_a_cross_encoder_scores_pairs_as_transformers_does(settings_of: Settings, tmp_path: Path) -> None:
    folder = save_reranker(tmp_path / "reranker")
    documents = ["on the mat", "rates rose", "a cat"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        pairs = [tokenizer("where is it", one, return_tensors="pt", padding=False) for one in documents]
        expected = [model(**pair).logits.sigmoid().item() for pair in pairs]
    host = EngineHost(settings_of(folder), {})
    try:
        assert host.engine.traits.paths == {"/tokenize", *RERANKING}
        told = host.http.post(
            "/v1/rerank", json={"model": "base", "query": "where is it", "documents": documents}
        ).json()
        scores = {one["index"]: one["relevance_score"] for one in told["results"]}
        np.testing.assert_allclose([scores[place] for place in range(3)], expected, atol=1e-5)
        assert told["usage"]["prompt_tokens"] == sum(pair["input_ids"].shape[1] for pair in pairs)
        assert refusal(embed(host, input="a")) == (404, "not_found", None)
    finally:
        host.close()


def test_a_model_that_cannot_be_served_ends_the_start_with_the_reason(settings_of: Settings, tmp_path: Path) -> None:
    folder = save_encoder(tmp_path / "odd", pooling_mode="median")
    engine = build_engine(settings_of(folder))
    with pytest.raises(EngineStartFailed, match="pooling 'median' is not one of cls, max, mean"):
        asyncio.run(engine.start())
