"""Anthropic's SDK: messages, streams, tools, counts of tokens, errors."""

from __future__ import annotations

from typing import Literal

import anthropic
from anthropic import beta_tool
from pydantic import BaseModel
from steps import BASE_URL, CITY_QUESTION, MODEL, WEATHER_QUESTION, done, expect

CLIENT = anthropic.Anthropic(base_url=BASE_URL.removesuffix("/v1"), api_key="none", max_retries=0)
TOOL = {
    "name": "get_weather",
    "description": "Return the weather in a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
        "required": ["city"],
    },
}


ONE_CALL = {"type": "any", "disable_parallel_tool_use": True}


class City(BaseModel):
    """A city."""

    is_capital: bool
    river: Literal["Seine", "Tiber"]


@beta_tool
def get_weather(city: Literal["Paris", "Rome"]) -> str:
    """Return the weather in a city."""
    return f"sunny in {city}"


def main() -> None:
    """Walk through all of it."""
    done("client", version=anthropic.__version__)
    messages = [{"role": "user", "content": CITY_QUESTION}]
    fields = {
        "model": MODEL,
        "max_tokens": 16,
        "extra_body": {"temperature": 0},
        "system": [{"type": "text", "text": "Be brief."}],
    }
    told = CLIENT.messages.create(**fields, messages=messages)
    expect(told.content[0].text and told.usage.output_tokens and told.stop_reason in ("end_turn", "max_tokens"), told)
    done("messages")
    with CLIENT.messages.stream(**fields, messages=messages) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    expect(text == final.content[0].text and final.usage.output_tokens, final)
    done("stream")
    counted = CLIENT.messages.count_tokens(model=MODEL, system=fields["system"], messages=messages)
    read = told.usage.input_tokens + (told.usage.cache_read_input_tokens or 0)
    expect(counted.input_tokens == read, (counted, told.usage))
    done("count_tokens")
    fields = {"model": MODEL, "max_tokens": 40, "extra_body": {"temperature": 0}, "tools": [TOOL]}
    question = {"role": "user", "content": WEATHER_QUESTION}
    called = CLIENT.messages.create(**fields, messages=[question], tool_choice=ONE_CALL)
    (call,) = [block for block in called.content if block.type == "tool_use"]
    expect(called.stop_reason == "tool_use" and call.input.keys() == {"city"}, called)
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}]}
    turns = [question, {"role": "assistant", "content": called.content}, result]
    expect(CLIENT.messages.create(**fields, messages=turns, tool_choice={"type": "none"}).content[0].text, "text")
    with CLIENT.messages.stream(
        **fields, messages=[question], tool_choice={"type": "tool", "name": TOOL["name"]}
    ) as stream:
        final = stream.get_final_message()
    expect(final.content[-1].input.keys() == {"city"}, final)
    done("tools", call=call.input)
    parsed = CLIENT.messages.parse(model=MODEL, max_tokens=40, messages=messages, output_format=City)
    expect(isinstance(parsed.parsed_output, City), parsed)
    done("structured")
    runner = CLIENT.beta.messages.tool_runner(
        model=MODEL,
        max_tokens=40,
        tools=[get_weather],
        messages=[question],
        tool_choice=ONE_CALL,
        max_iterations=2,
    )
    turns = list(runner)
    expect([turn.stop_reason for turn in turns] == ["tool_use"] * 2, turns)
    done("tool runner")
    try:
        CLIENT.messages.create(model="no-such-model", max_tokens=1, messages=messages)
    except anthropic.NotFoundError as exc:
        expect(exc.body["type"] == "error" and exc.body["error"]["type"] == "not_found_error", exc.body)
    else:
        expect(False, "an answer")
    done("errors")
    expect(MODEL in {model.id for model in CLIENT.models.list(limit=1000)}, "models")
    done("models")


if __name__ == "__main__":
    main()
