"""Every line of a training file is checked, and an error names line and field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from registry.contracts.training_file import TrainingRow
from registry.contracts.training_formats import CHATS_OR_TEXTS, LineParser, check_training_lines, read_lines
from registry.errors import TrainingFileInvalid

USER = {"role": "user", "content": "Where is my order?"}
ANSWER = {"role": "assistant", "content": "On its way."}

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"day": null}'}}
CALLS = {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
PART = {"type": "text", "text": "Where is "}


def called(**function: object) -> dict[str, object]:
    return {"role": "assistant", "tool_calls": [{"function": function}]}


def chat(*messages: object, **fields: object) -> bytes:
    return json.dumps({"messages": list(messages), **fields}).encode() + b"\n"


def parse_training_line(line: bytes, number: int) -> TrainingRow:
    return LineParser(CHATS_OR_TEXTS).parse(line, number)


GOOD = chat(USER, ANSWER)
TEXT = b'{"prompt": "Q:", "completion": " A"}\n'

BAD_LINES: list[tuple[bytes, str]] = [
    (b'{"messages": [\n', "line 7: is not valid JSON: Expecting value at column"),
    (b"null\n", "line 7: must be a JSON object"),
    (b'"text"\n', "line 7: must be a JSON object"),
    (b"[" * 100_000 + b"\n", "line 7: is not valid JSON: nested too deeply"),
    (b'{"messages": "\xff"}\n', "line 7: is not UTF-8 text (byte 15 of the line)"),
    (b'{"messages": [], "messages": []}', 'line 7: field "messages" appears twice'),
    (b'{"messages": NaN}', "line 7: is not valid JSON: NaN is not a JSON number"),
    (b'{"messages": ' + b"1" * 5000 + b"}", "line 7: holds a number of 5000 digits; the most are 300"),
    (b"{}\n", "line 7: messages is missing"),
    (b'{"messages": {}}\n', "line 7: messages must be a list"),
    (b'{"messages": []}\n', "line 7: messages must be a list with at least one message"),
    (chat(USER, ANSWER, tools={}), "line 7: tools must be a list, not an object"),
    (chat(USER, ANSWER, tools=[{"name": "f"}]), 'line 7: tools[0] must be {"type": "function", "function": {"name"'),
    (chat(USER, ANSWER, tools=[TOOL | {"type": "mcp"}]), 'line 7: tools[0].type "mcp" is unknown'),
    (chat(USER, ANSWER, functions=[]), 'line 7: unknown field "functions" (tools took its place)'),
    (chat(USER, ANSWER, parallel_tool_calls=1), "line 7: parallel_tool_calls must be true or false, not 1"),
    (chat(USER, CALLS, ANSWER, parallel_tool_calls=False), "line 7: messages[1].tool_calls has several calls"),
    (chat(USER, ANSWER, extra=1), 'line 7: unknown field "extra"; the fields of a line are messages, tools'),
    (b'{"conversations": []}', 'line 7: unknown field "conversations"; the fields of a line are messages, tools'),
    (b'{"prompt": "a"}', "line 7: completion is missing"),
    (b'{"prompt": null, "completion": "b"}', 'line 7: prompt is missing; give "" to learn a completion that follows'),
    (b'{"prompt": "a", "completion": " "}', "line 7: completion is empty"),
    (b'{"prompt": 3, "completion": "b"}', "line 7: prompt must be a string, not a number"),
    (b'{"prompt": "a", "completion": []}', "line 7: completion must be a string, not a list; a chat is a line of"),
    (b'{"prompt": "a", "completion": "b", "c": 1}', 'line 7: unknown field "c"; a line of text has prompt and'),
    (b'{"prompt": "a", "messages": []}', "line 7: has messages and prompt; a line is a chat or a text"),
    (TEXT, "line 7: is a prompt with a completion, but line 1 is a chat; a file has lines of one form"),
    (b"\xff\xfe{\x00", "line 7: is not UTF-8 text (byte 1 of the line); the file looks like UTF-16"),
    (b'{"messages": ' + b"[" * 200 + b"]" * 200 + b"}", "line 7: messages[0][0]"),
    (b'{"messages": 1e999}', "line 7: holds a number that is too large: 1e999"),
    (chat("hello", ANSWER), "line 7: messages[0] must be an object with role and content"),
    (chat({"content": "x"}, ANSWER), "line 7: messages[0].role is missing"),
    (chat(USER, {"role": "assistant"}), "line 7: messages[1].content is missing"),
    (chat(USER, {"role": "robot", "content": "x"}), 'line 7: messages[1].role "robot" is unknown; roles are system'),
    (chat(USER, {"role": ["user"], "content": "x"}), 'line 7: messages[1].role ["user"] is unknown'),
    (
        chat(USER, USER, ANSWER | {"content": ""}),
        "line 7: messages[2].content is empty; an assistant answer needs text",
    ),
    (chat(USER, ANSWER | {"content": " \n"}), "line 7: messages[1].content is empty; an assistant answer needs text"),
    (chat(USER | {"content": ""}, ANSWER), "line 7: messages[0].content is empty; a user message needs text"),
    (chat(USER, ANSWER | {"content": None}), "line 7: messages[1].content is missing"),
    (chat(USER | {"content": 3}, ANSWER), "line 7: messages[0].content must be a string or a list of text parts"),
    (chat(USER | {"content": [{"type": "text"}]}, ANSWER), "line 7: messages[0].content[0].text must be a string"),
    (chat(USER | {"content": [PART, {"type": "video_url"}]}, ANSWER), 'line 7: messages[0].content[1] is "video_url"'),
    (chat(USER | {"content": [PART | {"x": 1}]}, ANSWER), 'line 7: messages[0].content[0]: unknown field "x"'),
    (chat(USER | {"content": []}, ANSWER), "line 7: messages[0].content is empty; a user message needs text"),
    (chat(USER, {"role": "tool"}, ANSWER), "line 7: messages[1].content is missing"),
    (chat(USER | {"tool_call_id": "c"}, ANSWER), "line 7: messages[0].tool_call_id is for tool messages only"),
    (chat(USER | {"tool_calls": [CALL]}, ANSWER), "line 7: messages[0].tool_calls is for assistant messages only"),
    (chat(USER, ANSWER | {"tool_calls": ["f"]}), "line 7: messages[1].tool_calls[0] must be"),
    (chat(USER, ANSWER | {"tool_calls": [CALL | {"x": 1}]}), 'line 7: messages[1].tool_calls[0]: unknown field "x"'),
    (chat(USER, called(name=None, arguments="{}")), "line 7: messages[1].tool_calls[0].function.name must be a string"),
    (chat(USER, called(name="f", arguments="{")), "line 7: messages[1].tool_calls[0].function.arguments: is not valid"),
    (
        chat(USER, called(name="f", arguments="3")),
        "line 7: messages[1].tool_calls[0].function.arguments must be a JSON",
    ),
    (chat(USER, called(name="f", arguments={"a": "\ud800"})), "line 7: messages[1].tool_calls[0].function.arguments.a"),
    (chat(USER, ANSWER | {"function_call": {}}), "line 7: messages[1].function_call is not supported; give tool_calls"),
    (chat(USER, ANSWER | {"refusal": "No."}), "line 7: messages[1].refusal is not supported; give the words of a"),
    (chat(USER, ANSWER | {"content": "\ud800"}), "line 7: messages[1].content holds half of a surrogate pair"),
    (chat(USER | {"name": 3}, ANSWER), "line 7: messages[0].name must be a string, not a number"),
    (chat(USER, ANSWER | {"mood": "good"}), 'line 7: messages[1]: unknown field "mood"; a message has role, content'),
    (chat(USER, ANSWER | {"weight": 2}), "line 7: messages[1].weight must be 0 or 1, not 2"),
    (chat(USER, ANSWER | {"weight": True}), "line 7: messages[1].weight must be 0 or 1, not true"),
    (chat(USER | {"weight": 1}, ANSWER), "line 7: messages[0].weight is for assistant messages only"),
    (chat(USER), "line 7: messages has no assistant turn"),
    (chat(USER, ANSWER | {"weight": 0}), "line 7: messages has no assistant turn with weight 1"),
    (chat(USER, ANSWER, USER), "line 7: messages[2].role is user; the last message must be an assistant answer"),
]


@pytest.mark.parametrize(("line", "expected"), BAD_LINES)
def test_a_fault_is_named_by_line_and_field(line: bytes, expected: str) -> None:
    lines = [GOOD] * 6 + [line] + [GOOD] * 6
    with pytest.raises(TrainingFileInvalid) as caught:
        check_training_lines(lines)
    assert str(caught.value).startswith(expected)


def test_null_is_absent_at_every_depth() -> None:
    holes = {"name": None, "tool_calls": None, "weight": None, "annotations": None, "audio": None, "refusal": None}
    parts = [PART | {"image_url": None}, {"type": "text", "text": "my order?"}]
    line = chat(USER | holes | {"content": parts}, ANSWER | holes, tools=None, parallel_tool_calls=None, source=None)
    assert parse_training_line(line, 1) == parse_training_line(GOOD, 1)


def test_exports_write_weights_as_floats() -> None:
    row = parse_training_line(chat(USER | {"weight": 0.0}, ANSWER | {"weight": 0.0}, USER, ANSWER | {"weight": 1.0}), 1)
    assert [message.is_learnt for message in row.messages] == [False, False, False, True]


def test_a_template_gets_tools_as_engines_hand_them_over() -> None:
    answer = {"role": "tool", "tool_call_id": "c1", "content": [PART]}
    row = parse_training_line(chat(USER | {"role": "developer"}, USER, CALLS, answer, ANSWER, tools=[TOOL]), 1)
    given = [message.as_template_input() for message in row.messages]
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"day": None}}}
    assert given[0]["role"] == "system"
    assert given[2] == {"role": "assistant", "content": "", "tool_calls": [call, call]}
    assert given[3] == {"role": "tool", "content": "Where is ", "tool_call_id": "c1"}
    assert row.tools == (TOOL,)


def test_examples_with_tools_are_counted() -> None:
    lines = [*[GOOD] * 9, chat(USER, CALLS, {"role": "tool", "content": ""}, ANSWER)]
    assert check_training_lines(lines).tool_rows == 1


def test_what_is_left_out_of_training_is_counted() -> None:
    lines = [chat(USER, ANSWER | {"reasoning_content": "Hm.", "annotations": []})] * 10
    assert check_training_lines(lines).ignored == {"annotations": 10, "reasoning_content": 10}


def test_joined_files_with_byte_order_marks_are_read() -> None:
    assert check_training_lines([*[GOOD] * 6, b"\xef\xbb\xbf" + GOOD, *[GOOD] * 6]).rows == 13


def test_a_good_file_is_summed_up() -> None:
    lines = [GOOD] * 9 + [chat({"role": "system", "content": ""}, USER, ANSWER | {"weight": 0}, USER, ANSWER)]
    summary = check_training_lines(lines)
    assert (summary.rows, summary.learnt_turns) == (10, 10)
    assert summary.characters == 11 * (len(str(USER["content"])) + len(ANSWER["content"]))


def test_a_file_of_texts_is_summed_up() -> None:
    summary = check_training_lines([TEXT] * 10)
    assert (summary.rows, summary.learnt_turns, summary.characters) == (10, 10, 40)


def test_training_refuses_a_mixed_file_as_the_check_does() -> None:
    with pytest.raises(
        TrainingFileInvalid, match=r"^line 2: is a chat, but line 1 is a prompt with a completion; a file"
    ):
        list(read_lines([TEXT, GOOD], CHATS_OR_TEXTS))


def test_a_byte_order_mark_windows_line_ends_and_blank_lines_do_no_harm() -> None:
    windows = GOOD.replace(b"\n", b"\r\n")
    assert check_training_lines([b"\xef\xbb\xbf" + windows, b"\r\n", *[windows] * 9, b"\n"]).rows == 10


def test_blank_lines_are_counted_in_line_numbers() -> None:
    with pytest.raises(TrainingFileInvalid, match=r"^line 3: "):
        check_training_lines([GOOD, b"\n", b"broken\n"])


@pytest.mark.parametrize("lines", [[], [b""], [b"\n", b"  \n"], [b"\xef\xbb\xbf"]])
def test_an_empty_file_is_refused(lines: list[bytes]) -> None:
    with pytest.raises(TrainingFileInvalid, match="the file is empty"):
        check_training_lines(lines)


def test_fewer_than_ten_examples_are_refused() -> None:
    with pytest.raises(TrainingFileInvalid, match="the file has 9 examples; at least 10 are needed"):
        check_training_lines([GOOD] * 9)


def test_several_faults_are_told_at_once_and_many_are_counted() -> None:
    with pytest.raises(TrainingFileInvalid) as caught:
        check_training_lines([GOOD, *[b"broken\n"] * 8])
    listed = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in listed[:5]] == ["line 2", "line 3", "line 4", "line 5", "line 6"]
    assert listed[5] == "and 3 more lines with a fault"


def test_only_assistant_turns_without_weight_0_are_learnt() -> None:
    row = parse_training_line(chat(USER, ANSWER | {"weight": 0}, USER, ANSWER | {"weight": 1}), 4)
    assert row.line == 4
    assert [message.is_learnt for message in row.messages] == [False, False, False, True]


def test_training_reads_what_the_check_passed() -> None:
    named: dict[str, Any] = USER | {"name": "Ada"}
    rows = list(read_lines([b"\xef\xbb\xbf" + chat(named, ANSWER), b"\n", GOOD], CHATS_OR_TEXTS))
    assert [row.line for row in rows] == [1, 3]
    assert [message.as_template_input() for message in rows[0].messages] == [named, ANSWER]
