"""Pairs and rated chats are checked line by line, and an error names line and field."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from registry.contracts.training_formats import (
    CHATS,
    PAIRS,
    RATED_CHATS,
    TEXTS,
    LineFormat,
    LineParser,
    check_training_lines,
)
from registry.errors import TrainingFileInvalid

USER = {"role": "user", "content": "Where is my order?"}
GOOD = {"role": "assistant", "content": "On its way."}
POOR = {"role": "assistant", "content": "No idea."}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLS = {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "42"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


def pair(**fields: Any) -> bytes:
    line = {"input": {"messages": [USER]}, "preferred_output": [GOOD], "non_preferred_output": [POOR]} | fields
    return json.dumps(line).encode() + b"\n"


def rated(*messages: object, **fields: object) -> bytes:
    return json.dumps({"messages": list(messages) or [USER, GOOD], "label": True} | fields).encode() + b"\n"


def asked(*messages: object, **fields: object) -> dict[str, Any]:
    return {"messages": list(messages) or [USER], **fields}


BAD_PAIRS: list[tuple[bytes, str]] = [
    (b"[]\n", "line 7: must be a JSON object"),
    (pair(input=None), 'line 7: input is missing; a line is {"input"'),
    (pair(preferred_output=None), "line 7: preferred_output is missing; a line is"),
    (pair(non_preferred_output=None), "line 7: non_preferred_output is missing; a line is"),
    (pair(input=[USER]), "line 7: input must be an object with messages, not a list"),
    (pair(input={}), "line 7: input.messages is missing; a line is"),
    (pair(input={"messages": []}), "line 7: input.messages must be a list with at least one message"),
    (pair(input=asked("x")), "line 7: input.messages[0] must be an object with role and content"),
    (pair(input=asked(prompt="x")), 'line 7: input: unknown field "prompt"; the fields of a line are messages, tools'),
    (pair(chosen=[GOOD]), 'line 7: unknown field "chosen"; the fields of a line are input, preferred_output'),
    (pair(preferred_output=GOOD), "line 7: preferred_output must be a list with at least one message"),
    (pair(non_preferred_output=[]), "line 7: non_preferred_output must be a list with at least one message"),
    (pair(preferred_output=[USER]), "line 7: preferred_output[0].role is user; an output has assistant messages"),
    (pair(preferred_output=[CALLS, RESULT]), "line 7: preferred_output[1].role is tool; the last message must be"),
    (pair(preferred_output=[GOOD | {"weight": 0}]), "line 7: preferred_output has no assistant turn with weight 1"),
    (pair(preferred_output=[POOR]), "line 7: preferred_output and non_preferred_output are equal; nothing to prefer"),
    (
        pair(input=asked(parallel_tool_calls=False), preferred_output=[CALLS]),
        "line 7: preferred_output[0].tool_calls has several calls, and parallel_tool_calls is false",
    ),
    (pair(input=asked(tools={})), "line 7: input.tools must be a list, not an object"),
]
BAD_RATED: list[tuple[bytes, str]] = [
    (rated(label=None), "line 7: is a chat; the method learns from rated chats: "),
    (rated(label="good"), 'line 7: label must be true (a good answer) or false (a bad one), not "good"'),
    (rated(label=1), "line 7: label must be true (a good answer) or false (a bad one), not 1"),
    (rated(USER), "line 7: messages has no assistant turn"),
    (rated(USER, GOOD, USER), "line 7: messages[2].role is user; the last message must be an assistant answer"),
    (rated(USER, GOOD | {"weight": 0}), "line 7: messages has no assistant turn with weight 1"),
    (rated(USER, GOOD, USER, GOOD | {"weight": 0}), "line 7: messages has no assistant turn with weight 1"),
    (rated(score=1), 'line 7: unknown field "score"; the fields of a line are messages, tools, parallel_tool_calls, l'),
]


@pytest.mark.parametrize(
    ("form", "good", "line", "expected"),
    [(PAIRS, pair(), *case) for case in BAD_PAIRS] + [(RATED_CHATS, rated(), *case) for case in BAD_RATED],
)
def test_a_fault_is_named_by_line_and_field(form: LineFormat[Any], good: bytes, line: bytes, expected: str) -> None:
    with pytest.raises(TrainingFileInvalid) as caught:
        check_training_lines([good] * 6 + [line] + [good] * 6, wanted=(form,))
    assert str(caught.value).startswith(expected)


def test_only_the_outputs_of_a_pair_are_learnt_and_both_follow_the_same_prompt() -> None:
    line = pair(input=asked(USER, GOOD, USER, tools=[TOOL]), preferred_output=[CALLS, RESULT, GOOD])
    row = LineParser((PAIRS,)).parse(line, 3)
    assert [message.is_learnt for message in row.preferred.messages] == [False] * 3 + [True, False, True]
    assert [message.is_learnt for message in row.rejected.messages] == [False] * 3 + [True]
    assert row.preferred.messages[:3] == row.rejected.messages[:3]
    assert (row.preferred.tools, row.rejected.tools) == ((TOOL,), (TOOL,))
    assert len(row.messages) == 7


def test_only_the_last_answer_of_a_rated_chat_is_learnt() -> None:
    row = LineParser((RATED_CHATS,)).parse(rated(USER, GOOD, USER, POOR, label=False), 1)
    assert [message.is_learnt for message in row.chat.messages] == [False, False, False, True]
    assert not row.is_desirable


LINES: dict[LineFormat[Any], bytes] = {
    PAIRS: pair(),
    RATED_CHATS: rated(),
    TEXTS: b'{"prompt": "a", "completion": "b"}',
    CHATS: json.dumps({"messages": [USER, GOOD]}).encode(),
}


@pytest.mark.parametrize(("form", "other"), [*itertools.product(LINES, LINES)], ids=lambda form: form.plural)
def test_a_method_refuses_a_file_of_another_format_by_its_name(form: LineFormat[Any], other: LineFormat[Any]) -> None:
    lines = [LINES[form]] * 10
    if form is other:
        assert check_training_lines(lines, wanted=(form,)).format == form.plural
        return
    with pytest.raises(TrainingFileInvalid) as caught:
        check_training_lines(lines, wanted=(other,))
    assert str(caught.value) == f"line 1: is {form.singular}; the method learns from {other.plural}: {other.shape}"


def test_pairs_with_tools_are_counted() -> None:
    lines = [pair(preferred_output=[CALLS, RESULT, GOOD])] * 10
    assert check_training_lines(lines, wanted=(PAIRS,)).tool_rows == 10
