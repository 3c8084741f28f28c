"""Tokens become text without broken characters and without stop strings."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models

from engines.transformers.answers import TextFormat
from engines.transformers.sampling import Alternative, ChosenToken
from engines.transformers.sequence import Delta
from engines.transformers.text import StopFilter, TextStream, TokenTexts


@pytest.fixture(scope="module")
def codec(model_folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(model_folder / "tokenizer.json"))


@pytest.mark.parametrize(
    "text", ["Hello there, world.", "naïve café", "日本語のテキスト", "🦜🦜 ok 👩‍🚀", "  two  spaces"]
)
def test_pieces_join_to_the_text(codec: Tokenizer, text: str) -> None:
    stream = TextStream(codec, [])
    pieces = [stream.push(token).text for token in codec.encode(text).ids]
    assert "".join(pieces) + stream.flush() == text


def test_no_piece_has_half_a_character(codec: Tokenizer) -> None:
    stream = TextStream(codec, [])
    pieces = [stream.push(token).text for token in codec.encode("🦜日本").ids]
    assert len(pieces) > 3
    assert "\ufffd" not in "".join(pieces)


@pytest.mark.parametrize("text", ["naïve café", "🪿🦜日本", "  two  spaces\n", "<|im_end|>"])
def test_the_bytes_of_tokens_spell_the_text(codec: Tokenizer, text: str) -> None:
    tokens = TokenTexts(codec)
    assert b"".join(tokens.spell(token) for token in codec.encode(text).ids) == text.encode()


def test_bytes_are_read_in_the_form_of_sentencepiece_too() -> None:
    vocabulary = {"\u2581a": 0, "<0xF0>": 1, "<0x9F>": 2, "é": 3, "<unk>": 4}
    codec = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    codec.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokens = TokenTexts(codec)
    assert [tokens.spell(token) for token in range(4)] == [b" a", b"\xf0", b"\x9f", "é".encode()]
    assert tokens.spell(99) == b""
    assert tokens.spell_within("a aé", [4, 0, 0, 3]) == [b"", b"a", b" a", "é".encode()]


def test_pieces_of_characters_have_their_places_and_names_in_a_completion(codec: Tokenizer) -> None:
    ids = codec.encode("é🪿!").ids
    alternatives = tuple(Alternative(token, -1.0) for token in ids[1:4])
    choices = tuple(ChosenToken(token, -0.5, alternatives) for token in ids)
    delta = Delta(text="é🪿!", choices=choices, generated=len(ids), reused=0, finish=None)
    logprobs = TextFormat(TokenTexts(codec), 3).pieces(0, delta, is_first=True)[0]["logprobs"]
    assert logprobs["text_offset"] == [0, 1, 1, 1, 2]
    assert logprobs["tokens"] == ["é", r"bytes:\xf0\x9f", r"bytes:\xaa", r"bytes:\xbf", "!"]
    assert len(logprobs["top_logprobs"][0]) == 3


def test_special_tokens_are_no_text(codec: Tokenizer) -> None:
    stream = TextStream(codec, [])
    end = codec.token_to_id("<|im_end|>")
    assert end is not None
    assert [stream.push(end).text, stream.flush()] == ["", ""]


def test_a_stop_string_across_pieces_never_shows() -> None:
    stops = StopFilter(["STOP"])
    pieces = [stops.push(text) for text in ("one S", "T", "OP two")]
    assert [piece.text for piece in pieces] == ["one ", "", ""]
    assert [piece.stopped for piece in pieces] == [False, False, True]


def test_the_stop_string_that_ended_an_answer_is_named() -> None:
    stops = StopFilter(["END", "\n\n"])
    stops.push("one E")
    assert stops.met is None
    stops.push("ND\n\n")
    assert stops.met == "END"


def test_text_held_back_in_vain_is_sent() -> None:
    stops = StopFilter(["STOP"])
    assert stops.push("a ST").text == "a "
    assert stops.push("ART").text == "START"
    assert stops.flush() == ""


def test_the_earliest_stop_string_wins() -> None:
    assert StopFilter(["dd", "b"]).push("a b c dd").text == "a "


def test_what_is_held_is_flushed_at_the_end() -> None:
    stops = StopFilter(["\n\n"])
    assert stops.push("line\n").text == "line"
    assert stops.flush() == "\n"
