"""OpenAI's Responses by openai-python as it is installed: streams, tools, parsed output, stored conversations.

Run as a program: `python responses_walk.py BASE_URL MODEL`. Answers and events are read strictly; the program ends with
an error at the first one that is not of the SDK's types. What the model says does not matter.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import openai
from openai.types.responses import Response, ResponseItem, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.scenarios.sdk_walk import check_fields, expect, strict

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
ITEM: TypeAdapter[Any] = TypeAdapter(ResponseItem)
SWITCH: Any = {
    "type": "function",
    "name": "s",
    "description": "",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"on": {"type": "boolean"}},
        "required": ["on"],
        "additionalProperties": False,
    },
}


class Mood(BaseModel):
    """The fields that the model is to fill in."""

    mood: Literal["up", "down"]


def main(base_url: str, model: str) -> None:
    """Walk."""
    client = openai.OpenAI(base_url=base_url, api_key="none", max_retries=0)
    print(f"openai-python {openai.__version__}", flush=True)
    first = stored(client, model)
    streamed(client, model, first)
    parsed(client, model)
    tools(client, model)
    forgotten(client, model, first)


def stored(client: openai.OpenAI, model: str) -> str:
    """Make a response, go on from it, and read both back; return the id of the first."""
    raw = client.responses.with_raw_response
    first = strict(Response, raw.create(model=model, input="a", instructions="b", max_output_tokens=4))
    expect(first.status in ("completed", "incomplete"), "an answer")
    expect(first.usage is not None and first.usage.output_tokens <= 4, "usage")
    counted = client.responses.input_tokens.count(model=model, input="a", instructions="b")
    expect(first.usage is not None and counted.input_tokens == first.usage.input_tokens, "input_tokens")
    further = strict(Response, raw.create(model=model, input="c", previous_response_id=first.id, max_output_tokens=4))
    expect(further.previous_response_id == first.id, "previous_response_id")
    expect(first.usage and further.usage and further.usage.input_tokens > first.usage.input_tokens, "the conversation")
    expect(strict(Response, raw.retrieve(first.id)) == first, "retrieve")
    page = json.loads(client.responses.input_items.with_raw_response.list(further.id).text)
    for item in page["data"]:
        check_fields(ITEM.validate_json(json.dumps(item), strict=True), "input item")
    expect([each.type for each in client.responses.input_items.list(further.id)] == ["message"], "input_items")
    referred: Any = {"type": "item_reference", "id": first.output[0].id}
    strict(Response, raw.create(model=model, input=[referred, {"role": "user", "content": "d"}], max_output_tokens=4))
    return first.id


def streamed(client: openai.OpenAI, model: str, previous: str) -> None:
    """Read the events of a stream strictly, and by the SDK's own helper."""
    raw = client.responses.with_streaming_response.create(
        model=model, input="e", stream=True, max_output_tokens=4, previous_response_id=previous
    )
    with raw as told:
        lines = [line.removeprefix("data: ") for line in told.iter_lines() if line.startswith("data: ")]
    events = [EVENT.validate_json(line, strict=True) for line in lines]
    for event in events:
        check_fields(event, type(event).__name__)
    expect([event.sequence_number for event in events] == list(range(len(events))), "sequence_number")
    expect([event.type for event in events][:2] == ["response.created", "response.in_progress"], "the beginning")
    with client.responses.stream(model=model, input="f", max_output_tokens=4) as stream:
        seen = list(stream)
    texts = [event.delta for event in seen if event.type == "response.output_text.delta"]
    last = seen[-1]
    expect(last.type in ("response.completed", "response.incomplete"), last.type)
    expect(last.response.output_text == "".join(texts), "the stream's text")  # type: ignore[union-attr]
    print(f"a stream of {len(events)} events", flush=True)


def parsed(client: openai.OpenAI, model: str) -> None:
    """Have the answer held to a model of pydantic's."""
    told = client.responses.parse(model=model, input="g", text_format=Mood)
    expect(isinstance(told.output_parsed, Mood), "parse")
    with client.responses.stream(model=model, input="g", text_format=Mood) as stream:
        final = stream.get_final_response()
    expect(isinstance(final.output_parsed, Mood), "parse of a stream")


def tools(client: openai.OpenAI, model: str) -> None:
    """Have a function called, answer it, and go on."""
    told = client.responses.create(model=model, input="h", tools=[SWITCH], tool_choice="required")
    call = next(item for item in told.output if item.type == "function_call")
    expect(isinstance(json.loads(call.arguments)["on"], bool), "arguments")
    answer: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "ok"}
    outputs = [answer] + [
        {**answer, "call_id": item.call_id}
        for item in told.output
        if item.type == "function_call" and item.call_id != call.call_id
    ]
    further = client.responses.create(
        model=model,
        input=outputs,
        tools=[SWITCH],
        tool_choice="none",
        previous_response_id=told.id,
        max_output_tokens=4,
    )
    expect(all(item.type == "message" for item in further.output), "a message after the call")
    with client.responses.stream(model=model, input="h", tools=[SWITCH], tool_choice="required") as stream:
        done = [event.arguments for event in stream if event.type == "response.function_call_arguments.done"]
    expect(
        [isinstance(json.loads(each)["on"], bool) for each in done].count(True) == len(done) > 0, "streamed arguments"
    )


def forgotten(client: openai.OpenAI, model: str, stored_id: str) -> None:
    """Delete a response, after which nothing goes on from it; ask for what there is not."""
    client.responses.delete(stored_id)
    asks: dict[str, Callable[[], object]] = {
        "deleted": lambda: client.responses.create(model=model, input="i", previous_response_id=stored_id),
        "background": lambda: client.responses.create(model=model, input="i", background=True),
        "cancelled": lambda: client.responses.cancel(stored_id),
        "compacted": lambda: client.responses.compact(model=model, input="i"),
    }
    for name, ask in asks.items():
        try:
            ask()
        except openai.APIStatusError as exc:
            print(f"{name}: {exc.status_code} {exc.code}", flush=True)
        else:
            raise AssertionError(name)


if __name__ == "__main__":
    main(*sys.argv[1:])
