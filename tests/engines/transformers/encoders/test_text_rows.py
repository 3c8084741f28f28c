"""Texts become rows within the model's length; what does not fit is refused by name, or cut where that is asked for."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from engines.transformers.encoders.bodies import EmbeddingRequest, RerankRequest
from engines.transformers.encoders.model import load_encoder
from engines.transformers.encoders.texts import TextReader, kept_of_pair
from engines.transformers.errors import BadRequest
from engines.transformers.requests.parsing import parse_body
from tests.tiny_encoder import save_encoder, save_reranker

LONGEST = 20
CLS, SEP = 0, 2


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> TextReader:
    prompts = {"query": "q: ", "document": "d: "}
    folder = save_encoder(tmp_path_factory.mktemp("encoder"), pooling_mode="mean", longest=LONGEST, prompts=prompts)
    return TextReader(load_encoder(folder, 1000))


@pytest.fixture(scope="module")
def pair_reader(tmp_path_factory: pytest.TempPathFactory) -> TextReader:
    return TextReader(load_encoder(save_reranker(tmp_path_factory.mktemp("reranker")), LONGEST))


def embedding(**fields: Any) -> EmbeddingRequest:
    return parse_body(EmbeddingRequest, orjson.dumps({"model": "m", **fields}))


def rerank(**fields: Any) -> RerankRequest:
    return parse_body(RerankRequest, orjson.dumps({"model": "m", "query": "abc", **fields}))


def refused(reader: TextReader, **fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        reader.inputs(embedding(**fields))
    return caught.value


def test_all_forms_of_input_are_read(reader: TextReader) -> None:
    [text] = reader.inputs(embedding(input="ab"))
    assert (text.ids[0], text.ids[-1], len(text.ids)) == (CLS, SEP, 4)
    assert reader.inputs(embedding(input=["ab", "ab"])) == [text, text]
    assert [row.ids for row in reader.inputs(embedding(input=text.ids))] == [text.ids]
    assert [row.ids for row in reader.inputs(embedding(input=[text.ids, [CLS, SEP]]))] == [text.ids, [CLS, SEP]]


def test_a_prompt_goes_before_each_text_where_it_is_named(reader: TextReader) -> None:
    assert reader.inputs(embedding(input="ab", prompt_name="query")) == reader.inputs(embedding(input="q: ab"))
    assert refused(reader, input="ab", prompt_name="qurey").message.endswith("it has document, query")
    assert refused(reader, input=[CLS, SEP], prompt_name="query").param == "prompt_name"


def test_a_text_that_is_too_long_is_refused_in_the_words_that_clients_know(reader: TextReader) -> None:
    refusal = refused(reader, input=["ab", "a" * 30])
    assert (refusal.code, refusal.param) == ("context_length_exceeded", "input[1]")
    assert refusal.message.startswith(
        "This model's maximum context length is 20 tokens. However, your input[1] resulted"
    )
    assert "32 tokens" in refusal.message
    assert refused(reader, input=[CLS, *[7] * 19, SEP]).code == "context_length_exceeded"


@pytest.mark.parametrize(("asked", "length"), [(-1, LONGEST), (20, 20), (5, 5)])
def test_a_text_is_cut_where_that_is_asked_for_and_keeps_its_special_tokens(
    reader: TextReader, asked: int, length: int
) -> None:
    text = "".join(chr(97 + place) for place in range(26))
    whole = reader.inputs(embedding(input=text[: LONGEST - 2]))[0].ids
    [row] = reader.inputs(embedding(input=text, truncate_prompt_tokens=asked))
    assert row.ids == [*whole[: length - 1], SEP]
    [row] = reader.inputs(embedding(input=text, truncate_prompt_tokens=asked, truncation_side="left"))
    end = reader.inputs(embedding(input=text[26 - length + 2 :]))[0].ids
    assert row.ids == end
    [row] = reader.inputs(embedding(input=[CLS, *[9] * 50, SEP], truncate_prompt_tokens=asked))
    assert row.ids == [CLS, *[9] * (length - 1)]


@pytest.mark.parametrize("asked", [2, 21])
def test_a_cut_that_leaves_nothing_or_is_above_the_models_length_is_refused(reader: TextReader, asked: int) -> None:
    assert refused(reader, input="ab", truncate_prompt_tokens=asked).param == "truncate_prompt_tokens"


@pytest.mark.parametrize("tokens", [[CLS, 9906, SEP], [17, 38], [CLS, 17], [17, SEP]])
def test_tokens_of_another_tokenizer_are_refused_with_what_to_send_instead(
    reader: TextReader, tokens: list[int]
) -> None:
    refusal = refused(reader, input=[[CLS, 5, SEP], tokens])
    assert (refusal.param, "send text instead" in refusal.message) == ("input[1]", True)


def test_pairs_tell_their_texts_apart(pair_reader: TextReader) -> None:
    first, second = pair_reader.pairs(rerank(documents=["de", {"text": "f"}]))
    assert (len(first.ids), first.types) == (8, [0] * 5 + [1] * 3)
    assert (len(second.ids), second.types) == (7, [0] * 5 + [1] * 2)


def test_a_pair_that_is_too_long_is_refused_or_cut_at_its_longer_text(pair_reader: TextReader) -> None:
    with pytest.raises(BadRequest, match=r"documents\[1\] resulted in 56 tokens") as caught:
        pair_reader.pairs(rerank(documents=["d", "e" * 50]))
    assert caught.value.code == "context_length_exceeded"
    plain, cut = pair_reader.pairs(rerank(documents=["d", "e" * 50], truncate_prompt_tokens=-1))
    assert (len(plain.ids), len(cut.ids)) == (7, LONGEST)
    assert cut.ids[:5] == plain.ids[:5]
    [shortened] = pair_reader.pairs(rerank(documents=["e" * 50], max_tokens_per_doc=4))
    assert len(shortened.ids) == 3 + 3 + 4


def test_a_model_that_embeds_reads_query_and_documents_apart_under_its_own_prompts(reader: TextReader) -> None:
    rows = reader.apart(rerank(documents=["x", "y" * 30], max_tokens_per_doc=3))
    assert rows == reader.inputs(embedding(input=["q: abc", "d: x", "d: yyy"]))
    with pytest.raises(BadRequest) as caught:
        reader.apart(rerank(documents=["x", "y" * 30]))
    assert caught.value.param == "documents[1]"


WORDS = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
WORDS.pre_tokenizer = pre_tokenizers.Whitespace()


@given(st.integers(1, 30), st.integers(1, 30), st.integers(4, 40))
def test_pairs_are_cut_as_tokenizers_cut_them(first: int, second: int, room: int) -> None:
    WORDS.enable_truncation(room)
    pair = WORDS.encode(" ".join("a" * first), " ".join("a" * second))
    kept = kept_of_pair(first, second, room) if first + second > room else (first, second)
    assert kept == (pair.type_ids.count(0), pair.type_ids.count(1))
