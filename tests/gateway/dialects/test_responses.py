"""OpenAI's Responses as a chat: what the chat is asked, and what its answer becomes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseItem, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from gateway.dialects.dialect import AnswerTranslator, Arrival, Needed
from gateway.dialects.responses.dialect import InputTokensDialect, ResponsesDialect
from gateway.errors import InvalidRequest
from registry.responses.types import StoredResponse

TOKEN: Final = "ab" * 24
DIALECT: Final = ResponsesDialect(may_store=True)
EVENT: Final[TypeAdapter[Any]] = TypeAdapter(ResponseStreamEvent)
ITEM: Final[TypeAdapter[Any]] = TypeAdapter(ResponseItem)
WEATHER: Final = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
USAGE: Final = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def chat(arrival: Arrival | None = None, **request: Any) -> Mapping[str, Any]:
    return DIALECT.translate({"model": "m"} | request, arrival or Arrival(1.0, TOKEN)).body


def messages(given: Any, **request: Any) -> Any:
    return chat(input=given, **request)["messages"]


def begun(**request: Any) -> AnswerTranslator:
    return DIALECT.translate({"model": "m", "input": "hi"} | request, Arrival(1.0, TOKEN)).begin()


def message(answer: Mapping[str, Any], finish: str = "stop", **choice: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": None} | dict(answer)
    return {
        "model": "m@1",
        "choices": [{"index": 0, "message": said, "finish_reason": finish} | choice],
        "usage": USAGE,
    }


def whole(answer: Mapping[str, Any], **request: Any) -> dict[str, Any]:
    """The response, read strictly by the SDK's type."""
    translator = begun(**request)
    translator.whole(answer)
    translator.to_keep(2.0)
    body = translator.end(is_kept=True)
    read = Response.model_validate_json(body, strict=True)
    unknown_members(read)
    found: dict[str, Any] = orjson.loads(body)
    return found


def delta(finish: str | None = None, usage: Any = None, **said: Any) -> dict[str, Any]:
    logprobs = said.pop("logprobs", None)
    choice = {"index": 0, "delta": said, "finish_reason": finish, "logprobs": logprobs}
    return {"model": "m@1", "choices": [choice], "usage": usage}


def events(chunks: Sequence[Mapping[str, Any]], **request: Any) -> list[dict[str, Any]]:
    """The events of the stream, each read strictly by the SDK's type."""
    translator = begun(stream=True, **request)
    sent = b"".join([translator.chunk(chunk) for chunk in chunks])
    translator.to_keep(2.0)
    return read_events(sent + translator.end(is_kept=True))


def read_events(sent: bytes) -> list[dict[str, Any]]:
    found = []
    for event in sent.decode().split("\n\n")[:-1]:
        name, data = event.split("\n")
        unknown_members(EVENT.validate_json(data.removeprefix("data: ")))
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    assert [each["sequence_number"] for each in found] == list(range(len(found)))
    return found


def unknown_members(value: Any) -> None:
    """Fail where a member is not of the SDK's type; `store` is OpenAI's own and not among its types."""
    if isinstance(value, BaseModel):
        assert set(value.model_extra or {}) <= {"store"}, (type(value), value.model_extra)
        for name in type(value).model_fields:
            unknown_members(getattr(value, name))
    elif isinstance(value, list):
        for each in value:
            unknown_members(each)


def stored(**members: Any) -> StoredResponse:
    body = {"id": f"resp_{TOKEN}", "output": [], **members}
    return StoredResponse(id=body["id"], previous=None, body=body, input_items=(), created_at=0.0)


# requests


def test_a_text_is_a_message_of_the_user_and_instructions_are_the_systems() -> None:
    assert messages("hi", instructions="be brief") == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
    ]


def test_the_texts_of_the_system_at_the_beginning_are_one_message() -> None:
    given = [
        {"role": "developer", "content": "a"},
        {"role": "user", "content": "hi"},
        {"role": "system", "content": "b"},
    ]
    assert messages(given, instructions="be brief") == [
        {"role": "system", "content": "be brief\n\na"},
        {"role": "user", "content": "hi"},
        {"role": "system", "content": "b"},
    ]


def test_pictures_go_on_as_parts_of_a_chat() -> None:
    parts = [{"type": "input_text", "text": "what?"}, {"type": "input_image", "image_url": "data:x", "detail": "low"}]
    assert messages([{"role": "user", "content": parts}])[0]["content"] == [
        {"type": "text", "text": "what?"},
        {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}},
    ]


def test_the_output_of_a_response_is_input_of_the_next_one() -> None:
    calls = [
        {"id": f"call_{n}", "function": {"name": "weather", "arguments": f'{{"at": {n}}}'}, "type": "function"}
        for n in (1, 2)
    ]
    answer = whole(message({"content": "Let me see.", "reasoning_content": "hm", "tool_calls": calls}, "tool_calls"))
    outputs = [{"type": "function_call_output", "call_id": f"call_{n}", "output": "rain"} for n in (1, 2)]
    found = messages([{"role": "user", "content": "hi"}, *answer["output"], *outputs])
    assert found == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
        {"role": "tool", "tool_call_id": "call_2", "content": "rain"},
    ]


def test_an_item_is_referred_to_within_a_stored_response() -> None:
    item = {"id": f"msg_{TOKEN}_0", "type": "message", "role": "assistant", "content": [{"text": "yes"}]}
    given = [{"type": "item_reference", "id": item["id"]}, {"role": "user", "content": "why?"}]
    needed = DIALECT.needs({"model": "m", "input": given})
    assert needed == Needed(None, frozenset({f"resp_{TOKEN}"}))
    arrival = Arrival(1.0, "cd" * 24, referenced={f"resp_{TOKEN}": stored(output=[item])})
    assert chat(arrival, input=given)["messages"][0] == {"role": "assistant", "content": "yes"}
    with pytest.raises(InvalidRequest, match=f"msg_{TOKEN}_0' not found"):
        chat(input=given)


def test_a_conversation_goes_on_from_stored_responses_without_their_instructions() -> None:
    said = {"id": "msg_1", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]}
    asked = {"id": "msg_0", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "q"}]}
    first = StoredResponse(
        id="resp_1", previous=None, body={"output": [said], "instructions": "old"}, input_items=(asked,), created_at=0
    )
    found = chat(Arrival(1.0, TOKEN, (first,)), input="more", previous_response_id="resp_1", instructions="new")
    assert [each["content"] for each in found["messages"]] == ["new", "q", "a", "more"]


def test_fields_become_those_of_the_chat() -> None:
    found = chat(
        input="hi",
        max_output_tokens=9,
        temperature=0.5,
        top_p=0.9,
        user="u",
        include=["message.output_text.logprobs"],
        top_logprobs=2,
        reasoning={"effort": "low", "summary": "auto"},
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}},
        seed=1,
        stream=True,
        truncation="disabled",
        background=False,
        service_tier="auto",
    )
    schema = {"name": "n", "schema": {"type": "object"}, "strict": True}
    assert {name: value for name, value in found.items() if name != "messages"} == {
        "model": "m",
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "user": "u",
        "logprobs": True,
        "top_logprobs": 2,
        "reasoning_effort": "low",
        "response_format": {"type": "json_schema", "json_schema": schema},
        "seed": 1,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("required", "required"),
        ({"type": "function", "name": "weather"}, {"type": "function", "function": {"name": "weather"}}),
        ({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]}, "required"),
    ],
)
def test_every_choice_of_a_tool_is_one_of_the_chats(choice: Any, sent: Any) -> None:
    other = WEATHER | {"name": "other", "strict": True}
    found = chat(input="hi", tools=[WEATHER, other], tool_choice=choice, parallel_tool_calls=False)
    assert (found["tool_choice"], found["parallel_tool_calls"]) == (sent, False)
    names = [tool["function"]["name"] for tool in found["tools"]]
    assert names == (["weather"] if "tools" in choice else ["weather", "other"])


def test_what_is_said_about_tools_without_tools_asks_for_nothing() -> None:
    assert chat(input="hi", tools=[WEATHER], tool_choice="none").keys() == {"model", "messages"}
    assert chat(input="hi", tools=[], tool_choice="auto", parallel_tool_calls=True).keys() == {"model", "messages"}


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({}, "input"),
        ({"input": 5}, "input"),
        ({"input": []}, "input"),
        ({"input": [5]}, "input[0]"),
        ({"input": [{"role": "robot", "content": "hi"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "file_id"),
        ({"input": [{"type": "web_search_call"}]}, "input[0].type"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "n"}]}, "input[0].arguments"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "o"}]}, "input"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "n", "arguments": ""}]}, "input"),
        ({"input": "hi", "instructions": 5}, "instructions"),
        ({"input": "hi", "tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": "hi", "tools": {}}, "tools"),
        ({"input": "hi", "tool_choice": "required"}, "tool_choice"),
        ({"input": "hi", "tools": [WEATHER], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice.name"),
        ({"input": "hi", "tools": [WEATHER], "tool_choice": {"type": "mcp"}}, "tool_choice.type"),
        ({"input": "hi", "background": True}, "background"),
        ({"input": "hi", "conversation": "conv_1"}, "conversation"),
        ({"input": "hi", "prompt": {"id": "p"}}, "prompt"),
        ({"input": "hi", "truncation": "auto"}, "truncation"),
        ({"input": "hi", "service_tier": "flex"}, "service_tier"),
        ({"input": "hi", "text": {"verbosity": "low"}}, "text.verbosity"),
        ({"input": "hi", "text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"input": "hi", "text": {"format": {"type": "json_schema"}}}, "text.format.name"),
        ({"input": "hi", "reasoning": {"summary": "detailed"}}, "reasoning.summary"),
        ({"input": "hi", "include": ["everything"]}, "include[0]"),
        ({"input": "hi", "include": [["x"]]}, "include[0]"),
        ({"input": "hi", "top_logprobs": 21}, "top_logprobs"),
        ({"input": "hi", "max_output_tokens": 0}, "max_output_tokens"),
        ({"input": "hi", "max_output_tokens": True}, "max_output_tokens"),
        ({"input": "hi", "metadata": {"a": 1}}, "metadata"),
        ({"input": "hi", "metadata": [1]}, "metadata"),
        ({"input": "hi", "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
        ({"input": "hi", "store": "yes"}, "store"),
        ({"input": "hi", "messages": []}, "messages"),
        ({"input": "hi", "n": 2}, "n"),
    ],
)
def test_what_is_wrong_or_not_supported_is_named(request_: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as told:
        chat(**request_)
    assert told.value.param is not None
    assert told.value.param == param or told.value.param.endswith(f".{param}")
    assert str(told.value)


def test_a_house_may_store_nothing() -> None:
    house = ResponsesDialect(may_store=False)
    with pytest.raises(InvalidRequest, match="store_responses"):
        house.translate({"model": "m", "input": "hi", "store": True}, Arrival(1.0, TOKEN))
    translator = house.translate({"model": "m", "input": "hi"}, Arrival(1.0, TOKEN)).begin()
    translator.whole(message({"content": "yes"}))
    assert translator.to_keep(2.0) is None
    assert orjson.loads(translator.end(is_kept=False))["store"] is False


def test_the_prompt_of_a_response_is_counted_with_its_tools() -> None:
    request: dict[str, Any] = {
        "model": "m",
        "input": "hi",
        "instructions": "be brief",
        "tools": [WEATHER],
        "max_output_tokens": 3,
    }
    translation = InputTokensDialect().translate(request, Arrival(1.0, TOKEN))
    assert translation.body == {name: chat(**request)[name] for name in ("model", "messages", "tools")}
    translator = translation.begin()
    translator.whole({"count": 42, "tokens": []})
    assert translator.to_keep(2.0) is None
    assert orjson.loads(translator.end(is_kept=False)) == {"object": "response.input_tokens", "input_tokens": 42}


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("max_tokens", "max_output_tokens"),
        ("messages[3].content", "input"),
        ("response_format.json_schema.schema", "text.format"),
        ("tools[1].function.parameters", "tools[1].parameters"),
        ("temperature", "temperature"),
    ],
)
def test_an_engines_fields_are_named_as_those_of_the_response(field: str, asked: str) -> None:
    assert DIALECT.translate({"model": "m", "input": "hi"}, Arrival(1.0, TOKEN)).asked_field(field) == asked


# answers


def test_a_response_repeats_its_request_and_has_the_exact_usage() -> None:
    usage = {"prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 2}}
    answer = message({"content": "yes"}) | {"usage": USAGE | usage}
    found = whole(
        answer, metadata={"a": "b"}, tools=[WEATHER], instructions="be brief", max_output_tokens=3, store=True
    )
    assert (found["id"], found["model"], found["status"]) == (f"resp_{TOKEN}", "m@1", "completed")
    assert (found["metadata"], found["instructions"], found["max_output_tokens"]) == ({"a": "b"}, "be brief", 3)
    assert found["output"][0]["content"][0]["text"] == "yes"
    assert found["usage"] == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 10,
    }


@pytest.mark.parametrize(("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_an_answer_that_was_cut_short_is_incomplete(finish: str, reason: str) -> None:
    found = whole(message({"content": "ye"}, finish))
    assert (found["status"], found["incomplete_details"]) == ("incomplete", {"reason": reason})
    assert found["output"][0]["status"] == "incomplete"
    assert found["completed_at"] is None


def test_an_answer_that_the_engine_gave_up_has_failed_and_is_not_kept() -> None:
    translator = begun()
    translator.whole(message({"content": "ye"}, "abort"))
    assert translator.to_keep(2.0) is None
    found = orjson.loads(translator.end(is_kept=False))
    assert (found["status"], found["error"]["code"]) == ("failed", "server_error")


def test_a_stream_has_the_full_sequence_of_events() -> None:
    found = events(
        [
            delta(role="assistant", content=""),
            delta(content="he"),
            delta(content="llo"),
            delta("stop"),
            {"choices": [], "usage": USAGE},
        ]
    )
    assert [each["type"].removeprefix("response.") for each in found] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert found[0]["response"]["output"] == found[2]["item"]["content"] == []
    assert found[-1]["response"]["output"] == [found[-2]["item"]]
    assert found[-1]["response"]["usage"]["total_tokens"] == 10


def test_a_call_is_streamed_by_its_arguments_and_blanks_before_it_are_no_message() -> None:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    found = events(
        [
            delta(reasoning_content="hm"),
            delta(content="\n\n"),
            delta(tool_calls=[call]),
            delta(tool_calls=[{"index": 0, "function": {"arguments": '{"at"'}}]),
            delta(tool_calls=[{"index": 0, "function": {"arguments": ": 1}"}}]),
            delta("tool_calls"),
        ],
        tools=[WEATHER],
    )
    assert [each["type"].removeprefix("response.") for each in found][2:] == [
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert found[-1]["response"]["output"][1] == {
        "id": f"fc_{TOKEN}_1",
        "type": "function_call",
        "call_id": "call_1",
        "name": "weather",
        "arguments": '{"at": 1}',
        "status": "completed",
    }


def test_a_stream_that_breaks_off_ends_with_an_error_and_the_failed_response() -> None:
    translator = begun(stream=True)
    sent = translator.chunk(delta(content="hel"))
    sent += translator.broke({"error": {"message": "the replica failed", "code": "engine_unavailable", "param": None}})
    *_, item, error, last = read_events(sent)
    assert (item["type"], item["item"]["status"]) == ("response.output_item.done", "incomplete")
    assert (error["type"], error["code"]) == ("error", "engine_unavailable")
    assert last["type"] == "response.failed"
    assert last["response"]["output"][0]["content"][0]["text"] == "hel"


def test_a_stream_without_an_end_is_not_an_answer() -> None:
    translator = begun(stream=True)
    translator.chunk(delta(content="hel"))
    with pytest.raises(ValueError, match="ended without"):
        translator.to_keep(2.0)


PIECES: Final = st.lists(st.sampled_from(["a", " ", "é", "\n", "x y"]), max_size=4)
CALLS: Final = st.lists(PIECES.map(tuple), max_size=3)


@given(reasoning=PIECES, text=PIECES, calls=CALLS, finish=st.sampled_from(["stop", "length"]))
def test_a_stream_ends_in_the_response_that_the_whole_answer_is(
    reasoning: list[str], text: list[str], calls: list[tuple[str, ...]], finish: str
) -> None:
    def logprobs(piece: str) -> dict[str, Any]:
        return {"content": [{"token": piece, "logprob": -1.0, "bytes": None, "top_logprobs": []}]}

    chunks = [delta(reasoning_content=piece) for piece in reasoning]
    chunks += [delta(content=piece, logprobs=logprobs(piece)) for piece in text]
    whole_calls = []
    for at, pieces in enumerate(calls):
        whole_calls.append({"id": f"c{at}", "function": {"name": "weather", "arguments": "".join(pieces)}})
        chunks.append(delta(tool_calls=[{"index": at, "id": f"c{at}", "function": {"name": "weather"}}]))
        chunks += [delta(tool_calls=[{"index": at, "function": {"arguments": piece}}]) for piece in pieces]
    chunks.append(delta(finish, usage=USAGE))
    answer = {"content": "".join(text), "reasoning_content": "".join(reasoning), "tool_calls": whole_calls}
    content = [each for piece in text for each in logprobs(piece)["content"]]
    streamed = events(chunks)
    assert streamed[-1]["response"] == whole(message(answer, finish, logprobs={"content": content}))
    deltas = [each["delta"] for each in streamed if each["type"] == "response.output_text.delta"]
    assert "".join(deltas) == "".join(
        part["text"]
        for item in streamed[-1]["response"]["output"]
        if item["type"] == "message"
        for part in item["content"]
    )


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["type", "role", "content", "id", "text", "output", "call_id", "name"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=8,
    )
)
def test_odd_input_is_refused_with_a_sentence_or_taken(odd: Any) -> None:
    for field in ("input", "tools", "tool_choice", "text", "reasoning", "metadata", "include", "stream_options"):
        request = {"model": "m", "input": "hi"} | {field: odd}
        try:
            DIALECT.needs(request)
            DIALECT.translate(
                {name: value for name, value in request.items() if value is not None}, Arrival(1.0, TOKEN)
            )
        except InvalidRequest as exc:
            assert exc.param is not None


def test_input_items_are_listed_in_the_form_of_the_sdk() -> None:
    given = [
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "data:x"}],
        },
        {"role": "assistant", "content": "b"},
        {"type": "function_call", "call_id": "c", "name": "n", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "o"}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
    ]
    translator = begun(input=given)
    translator.whole(message({"content": "yes"}))
    kept = translator.to_keep(2.0)
    assert kept is not None
    for item in kept.input_items:
        ITEM.validate_json(orjson.dumps(item), strict=True)
    assert [item["id"].partition("_")[0] for item in kept.input_items] == ["msg", "msg", "fc", "fco", "rs"]
