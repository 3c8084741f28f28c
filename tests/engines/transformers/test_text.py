"""Tokens become text without broken characters and without stop strings."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from engines.transformers.text import StopFilter, TextStream


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
