"""Bodies in the forms of OpenAI, Cohere, Jina and vLLM are read, all else is refused by name; answers are theirs."""

from __future__ import annotations

import base64
import re
from typing import Any

import numpy as np
import orjson
import pytest
from openai.types import CreateEmbeddingResponse

from engines.transformers.encoders.answers import cosines, embedding_list, ranking
from engines.transformers.encoders.bodies import EmbeddingRequest, RerankRequest
from engines.transformers.errors import BadRequest
from engines.transformers.requests.parsing import Parsed, parse_body

VECTORS = np.array([[3, 4, 0], [0, 0, 1]], np.float32)
PYTHON_WORDS = re.compile(r"\b(str|int|dict|list|tuple|bool|None|Input|pydantic|Tag)\b")


def embedding(**fields: Any) -> EmbeddingRequest:
    return parse_body(EmbeddingRequest, orjson.dumps({"model": "m", "input": ["a", "b"], **fields}))


def rerank(**fields: Any) -> RerankRequest:
    return parse_body(RerankRequest, orjson.dumps({"model": "m", "query": "q", "documents": ["a", "b"], **fields}))


def refused(model: type[Parsed], **fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        parse_body(model, orjson.dumps({"model": "m", **fields}))
    assert not PYTHON_WORDS.search(caught.value.message), caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "input"),
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a", 5]}, "input[1]"),
        ({"input": ["a", None]}, "input[1]"),
        ({"input": [[]]}, "input[0]"),
        ({"input": [[1], "a"]}, "input[1]"),
        ({"input": [1, -1]}, "input[1]"),
        ({"input": [1, 1.5]}, "input[1]"),
        ({"input": 5}, "input"),
        ({"input": {"text": "a"}}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": [[1]] * 2049}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": "5"}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "a", "truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"input": "a", "truncate_prompt_tokens": -2}, "truncate_prompt_tokens"),
        ({"input": "a", "truncation_side": "middle"}, "truncation_side"),
        ({"input": "a", "add_special_tokens": False}, "add_special_tokens"),
        ({"input": "a", "input_type": "query"}, "input_type"),
        ({"input": "a", "stream": True}, "stream"),
        ({"input": "a", "messages": [{"role": "user"}]}, "messages"),
    ],
)
def test_a_body_without_sense_is_refused_by_the_name_of_the_field(fields: dict[str, Any], param: str) -> None:
    assert refused(EmbeddingRequest, **fields).param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"documents": ["a"]}, "query"),
        ({"query": "", "documents": ["a"]}, "query"),
        ({"query": "q"}, "documents"),
        ({"query": "q", "documents": []}, "documents"),
        ({"query": "q", "documents": "a"}, "documents"),
        ({"query": "q", "documents": ["a", 5]}, "documents[1]"),
        ({"query": "q", "documents": [{"image": "a"}]}, "documents[0].text"),
        ({"query": "q", "documents": [{"text": 5}]}, "documents[0].text"),
        ({"query": "q", "documents": ["a"], "top_n": -1}, "top_n"),
        ({"query": "q", "documents": ["a"], "return_documents": "yes"}, "return_documents"),
        ({"query": "q", "documents": ["a"], "rank_fields": ["title"]}, "rank_fields"),
    ],
)
def test_a_rerank_without_sense_is_refused_by_the_name_of_the_field(fields: dict[str, Any], param: str) -> None:
    assert refused(RerankRequest, **fields).param == param


def test_fields_that_ask_for_nothing_are_taken() -> None:
    embedding(
        user="me",
        add_special_tokens=True,
        embed_dtype="float32",
        endianness="little",
        priority=0,
        stream=False,
        dimensions=None,
    )
    rerank(user="me", rank_fields=["text"], max_tokens_per_query=0, use_activation=True, top_n=0)


def test_vectors_are_numbers_or_little_endian_float32() -> None:
    told = embedding_list(embedding(), VECTORS, 7, normalizes=False)
    CreateEmbeddingResponse.model_validate_json(orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY))
    assert (told["usage"], [one["index"] for one in told["data"]]) == ({"prompt_tokens": 7, "total_tokens": 7}, [0, 1])
    packed = embedding_list(embedding(encoding_format="base64"), VECTORS, 7, normalizes=False)["data"]
    read = [np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in packed]
    np.testing.assert_array_equal(np.stack(read), VECTORS)


def test_fewer_dimensions_have_length_1_again_where_the_model_normalises() -> None:
    [first, second] = embedding_list(embedding(dimensions=2), VECTORS, 7, normalizes=True)["data"]
    np.testing.assert_allclose(first["embedding"], [0.6, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(second["embedding"], [0, 0])  # nothing is left of it, and nothing is not divided
    [raw, _] = embedding_list(embedding(dimensions=2), VECTORS, 7, normalizes=False)["data"]
    np.testing.assert_array_equal(raw["embedding"], [3, 4])


def test_documents_are_in_the_order_of_their_scores_and_come_back_as_they_came() -> None:
    documents = ["a", {"text": "b", "id": 7}, "c"]
    told = ranking(rerank(documents=documents), np.array([0.1, 0.9, 0.9], np.float32), 5)
    assert [one["index"] for one in told["results"]] == [1, 2, 0]
    assert [one["document"] for one in told["results"]] == [{"text": "b", "id": 7}, {"text": "c"}, {"text": "a"}]
    assert told["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    few = ranking(rerank(documents=documents, top_n=1, return_documents=False), np.array([0, 1, 0], np.float32), 5)
    assert few["results"] == [{"index": 1, "relevance_score": 1.0}]


def test_the_cosine_is_that_of_the_first_vector_with_each_other() -> None:
    vectors = np.array([[2, 0], [3, 0], [0, 1], [-1, 0], [0, 0]], np.float32)
    np.testing.assert_allclose(cosines(vectors), [1, 0, -1, 0])
