"""Our own server lets models call functions, with arguments that are valid by their schema."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from openai import OpenAI

from engines.address import key_of, shown_address
from tests.contract.engine_host import EngineHost
from tests.contract.kinds import OWN

pytestmark = pytest.mark.parametrize("kind", OWN, indirect=True)

ARGUMENTS: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "unit": {"enum": ["C", "F"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather in a city.", "parameters": ARGUMENTS},
}
CLOCK: dict[str, Any] = {"type": "function", "function": {"name": "get_time"}}
QUESTION = "What is the weather in Paris?"
NAMED = {"type": "function", "function": {"name": "get_time"}}


def asked(host: EngineHost, **fields: Any) -> dict[str, Any]:
    known = {"tools": [WEATHER, CLOCK], "max_tokens": 200}
    choice: dict[str, Any] = host.chat(QUESTION, **known | fields)["choices"][0]
    return choice


def check_call(call: dict[str, Any]) -> None:
    assert call["type"] == "function"
    schema = {"get_weather": ARGUMENTS, "get_time": {"enum": [{}]}}[call["function"]["name"]]
    jsonschema.validate(json.loads(call["function"]["arguments"]), schema)


def put_together(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """The message and the reason of a stream with one answer."""
    content, calls, finish = "", list[dict[str, Any]](), None
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        content += choice["delta"].get("content") or ""
        for piece in choice["delta"].get("tool_calls", []):
            if "id" in piece:
                assert piece["index"] == len(calls), "a call begins with its id"
                calls.append({name: piece[name] for name in ("id", "type", "function")})
            else:
                assert piece.keys() == {"index", "function"}
                calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
        finish = choice["finish_reason"] or finish
    return {"content": content or None, "tool_calls": calls, "finish_reason": finish}


@pytest.mark.parametrize("temperature", [0, 1.5])
@pytest.mark.parametrize("model", ["base", "one@1"])
def test_a_call_that_must_come_comes_and_is_valid(host: EngineHost, model: str, temperature: float) -> None:
    for seed in range(2):
        choice = asked(host, tool_choice="required", model=model, temperature=temperature, seed=seed)
        assert choice["message"]["content"] is None
        assert choice["finish_reason"] in ("tool_calls", "length")
        calls = choice["message"]["tool_calls"]
        assert calls
        for call in calls if choice["finish_reason"] == "tool_calls" else calls[:-1]:
            check_call(call)
        assert len({call["id"] for call in calls}) == len(calls)


def test_a_stream_has_the_calls_of_the_whole_answer(host: EngineHost) -> None:
    fields: dict[str, Any] = {"tools": [WEATHER, CLOCK], "tool_choice": "required", "max_tokens": 200}
    body = host.body(QUESTION, **fields, stream_options={"include_usage": True})
    chunks = host.streamed("/v1/chat/completions", body)
    whole, streamed = host.chat(QUESTION, **fields), put_together(chunks)
    assert [call["function"] for call in streamed["tool_calls"]] == [
        call["function"] for call in whole["choices"][0]["message"]["tool_calls"]
    ]
    assert streamed["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert chunks[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]


def test_a_named_function_is_called_once_and_several_only_where_they_may(host: EngineHost) -> None:
    [named] = asked(host, tool_choice=NAMED)["message"]["tool_calls"]
    assert named["function"] == {"name": "get_time", "arguments": "{}"}
    [single] = asked(host, tool_choice="required", parallel_tool_calls=False)["message"]["tool_calls"]
    check_call(single)


def test_an_answer_without_calls_is_text_or_has_the_prescribed_form(host: EngineHost) -> None:
    silent = asked(host, tool_choice="none", max_tokens=8)
    assert "tool_calls" not in silent["message"]
    assert silent["message"]["content"]
    free = asked(host, max_tokens=60)["message"]
    assert free.get("tool_calls") or free["content"]
    bound = asked(host, structured_outputs={"choice": ["sunny", "rainy"]}, max_tokens=60)["message"]
    assert bound.get("tool_calls") or bound["content"] in ("sunny", "rainy")


def test_stop_strings_end_text_and_not_calls(host: EngineHost) -> None:
    choice = asked(host, tool_choice=NAMED, stop=["\n", "get_time"])
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "get_time"


def test_logprobs_report_each_token_once(host: EngineHost) -> None:
    fields: dict[str, Any] = {"tools": [WEATHER, CLOCK], "tool_choice": NAMED, "logprobs": True}
    whole = host.chat(QUESTION, **fields)["choices"][0]["logprobs"]["content"]
    chunks = host.streamed("/v1/chat/completions", host.body(QUESTION, **fields))
    parts = [choice["logprobs"]["content"] for chunk in chunks for choice in chunk["choices"] if choice["logprobs"]]
    assert [entry["token"] for part in parts for entry in part] == [entry["token"] for entry in whole]
    assert "".join(entry["token"] for entry in whole).startswith("<tool_call>")


def test_tools_count_in_the_prompt_as_the_tokenizer_counts_them(host: EngineHost) -> None:
    body = {"model": "base", "messages": [{"role": "user", "content": QUESTION}], "tools": [WEATHER]}
    counted = host.http.post("/tokenize", json=body).json()["count"]
    assert counted == host.chat(QUESTION, tools=[WEATHER])["usage"]["prompt_tokens"]


def test_an_agent_of_the_sdk_calls_reads_the_result_and_answers(host: EngineHost) -> None:
    client: Any = OpenAI(
        base_url=f"{shown_address(host.engine.base_url)}/v1", api_key=key_of(host.engine.base_url) or "none"
    )
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    with client:
        common = {"model": "base", "tools": [WEATHER], "temperature": 0, "max_tokens": 100}
        first = client.chat.completions.create(messages=messages, tool_choice="required", **common).choices[0]
        assert first.finish_reason == "tool_calls"
        messages.append(first.message)
        for call in first.message.tool_calls:
            assert json.loads(call.function.arguments)["unit"] in ("C", "F")
            messages.append({"role": "tool", "tool_call_id": call.id, "content": "21 degrees, sunny"})
        last = client.chat.completions.create(messages=messages, tool_choice="none", **common).choices[0]
    assert last.message.content
    assert last.message.tool_calls is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [WEATHER, WEATHER]}, "tools[1].function.name"),
        ({"tools": [WEATHER], "tool_choice": NAMED}, "tool_choice.function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "strict": True, "parameters": {"not": {}}}}]},
            "tools[0].function.parameters",
        ),
        ({"functions": [{"name": "f"}]}, "functions"),
    ],
)
def test_what_is_wrong_with_tools_is_named(host: EngineHost, fields: dict[str, Any], param: str) -> None:
    answer = host.http.post("/v1/chat/completions", json=host.body(QUESTION, **fields))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
