"""Calls are read alike however the text of an answer was cut into pieces."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversations.call_forms import CALL_FORMS, HERMES, MISTRAL, CallForm
from engines.transformers.calls.call_reader import CallReader

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet=st.sampled_from('ab"\\{}[]<>/\n é☃'), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
CALLS = st.tuples(
    st.sampled_from(["f", "get_weather", "a-b"]), st.dictionaries(st.text(max_size=5), VALUES, max_size=3)
)
Called = tuple[str, dict[str, Any]]


def written(form: CallForm, content: str, calls: list[Called]) -> str:
    """An answer as a model writes it."""
    if not calls:
        return content
    bodies = [
        f"{form.before_name}{name}{form.before_arguments}{json.dumps(arguments)}{form.after_arguments}"
        for name, arguments in calls
    ]
    return content + form.begins + (form.between or "").join(bodies) + form.ends


def read(form: CallForm, pieces: list[str]) -> tuple[str, list[tuple[str, str]], CallReader]:
    """Content and calls that were read, with the arguments as they were written."""
    reader = CallReader(form)
    content, ids, calls = "", list[str | None](), list[tuple[str, str]]()
    for piece in pieces:
        found = reader.push(piece)
        assert not (found.content and calls), "text comes before calls"
        content += found.content
        for part in found.calls:
            if part.name is not None:
                assert part.index == len(calls)
                ids.append(part.id)
                calls.append((part.name, ""))
            name, arguments = calls[part.index]
            calls[part.index] = (name, arguments + part.arguments)
    assert None not in ids
    assert len(set(ids)) == len(ids)
    return content + reader.flush(), calls, reader


def cut(text: str, places: list[int]) -> list[str]:
    borders = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:end] for start, end in pairwise(borders)]


@given(
    form=st.sampled_from(CALL_FORMS),
    content=st.sampled_from(["", "Let me look.", "a\n\n b", "<tool", '{"nam', "[TOOL_", "</tool_call>", "é☃"]),
    calls=st.lists(CALLS, max_size=3),
    places=st.lists(st.integers(0, 400), max_size=12),
)
def test_pieces_of_any_length_give_the_same_calls(
    form: CallForm, content: str, calls: list[Called], places: list[int]
) -> None:
    most = calls if form.between is not None else calls[:1]
    before = content if form.may_follow_text or not most else ""
    text = written(form, before, most)
    said, found, reader = read(form, cut(text, places))
    assert said == before
    assert found == [(name, json.dumps(arguments)) for name, arguments in most]
    assert reader.finished == len(most)


@pytest.mark.parametrize("text", ["Just text.", "a < b\n", " \n", "<tool_call", "x<tool_cal"])
def test_text_that_only_looks_like_a_call_stays_whole(text: str) -> None:
    assert read(HERMES, list(text))[:2] == (text, [])


def test_white_space_before_a_call_belongs_to_neither() -> None:
    assert read(HERMES, list(written(HERMES, "Wait.\n\n", [("f", {})])))[:2] == ("Wait.", [("f", "{}")])


def test_a_call_is_read_without_the_space_that_a_decoder_leaves_out() -> None:
    text = written(MISTRAL, "", [("f", {})]).replace("] [", "][")
    assert read(MISTRAL, list(text))[:2] == ("", [("f", "{}")])


def test_a_call_that_was_cut_off_has_its_arguments_so_far_and_one_without_a_name_is_dropped() -> None:
    text = written(HERMES, "", [("f", {"a": "b"})])
    said, calls, reader = read(HERMES, [text[: text.index('"b"') + 2]])
    assert (said, calls, reader.finished) == ("", [("f", '{"a": "b')], 0)
    assert read(HERMES, [text[: text.index('f"')]])[:2] == ("", [])
