"""openai-python: chat, streams, tools, structured output, completions, responses, models, errors."""

from __future__ import annotations

import json
from typing import Literal

import openai
from pydantic import BaseModel
from steps import BASE_URL, CITY_QUESTION, ENCODER, MODEL, WEATHER_QUESTION, done, expect

CLIENT = openai.OpenAI(base_url=BASE_URL, api_key="none", max_retries=0)
MESSAGES = [{"role": "user", "content": CITY_QUESTION}]
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "get_weather", "strict": True, "parameters": PARAMETERS}}


class City(BaseModel):
    """A city."""

    is_capital: bool
    river: Literal["Seine", "Tiber"]


def walk_chat() -> None:
    """Whole and streamed chats, with everything that the SDK may leave at its default."""
    told = CLIENT.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_completion_tokens=12, n=2, temperature=1, logprobs=True, top_logprobs=2
    )
    expect(len(told.choices) == 2 and told.usage.completion_tokens > 0, told)
    expect(len(told.choices[0].logprobs.content[0].top_logprobs) == 2, told)
    done("chat", id=told.id)
    stream = CLIENT.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=12, n=2, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    reasons = {one.index: one.finish_reason for chunk in chunks for one in chunk.choices if one.finish_reason}
    expect(reasons.keys() == {0, 1} and chunks[-1].usage.completion_tokens > 0, chunks[-1])
    done("stream", chunks=len(chunks))
    # The SDK refuses an answer that the limit cut off.
    rule = {"structured_outputs": {"choice": ["Paris", "Rome"]}}
    with CLIENT.chat.completions.stream(model=MODEL, messages=MESSAGES, extra_body=rule) as events:
        kinds = {event.type for event in events}
        expect({"chunk", "content.delta", "content.done"} <= kinds, kinds)
        expect(events.get_final_completion().choices[0].message.content, "no content")
    done("stream helper")


def walk_structured() -> None:
    """An answer by a schema, parsed by the SDK."""
    told = CLIENT.chat.completions.parse(model=MODEL, messages=MESSAGES, response_format=City, max_tokens=40)
    expect(isinstance(told.choices[0].message.parsed, City), told)
    done("structured", parsed=told.choices[0].message.parsed.model_dump())


def walk_tools() -> None:
    """A forced call, its answer, and a forced call in a stream."""
    fields = {
        "model": MODEL,
        "tools": [TOOL],
        "parallel_tool_calls": False,
        "max_tokens": 40,
        "temperature": 0,
        "messages": [user(WEATHER_QUESTION)],
    }
    told = CLIENT.chat.completions.create(**fields, tool_choice="required")
    message = told.choices[0].message
    expect(told.choices[0].finish_reason == "tool_calls" and len(message.tool_calls) == 1, told)
    call = message.tool_calls[0]
    expect(json.loads(call.function.arguments).keys() == {"city"}, call)
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    fields["messages"] = [user(WEATHER_QUESTION), message.model_dump(), result]
    expect(CLIENT.chat.completions.create(**fields, tool_choice="none").choices[0].message.content is not None, "text")
    expect(CLIENT.chat.completions.create(**fields).choices[0].finish_reason, "auto")
    done("tools", call=call.function.arguments)
    named = {"type": "function", "function": {"name": "get_weather"}}
    fields["messages"] = [user(WEATHER_QUESTION)]
    with CLIENT.chat.completions.stream(**fields, tool_choice=named) as events:
        kinds = {event.type for event in events}
        final = events.get_final_completion()
    expect("tool_calls.function.arguments.done" in kinds, kinds)
    expect(json.loads(final.choices[0].message.tool_calls[0].function.arguments).keys() == {"city"}, final)
    done("streamed tools")


def walk_completions() -> None:
    """Plain completions, with the prompt's logprobs too."""
    told = CLIENT.completions.create(
        model=MODEL, prompt=["One, two,", "A, b,"], echo=True, logprobs=1, max_tokens=1, temperature=0
    )
    expect(told.choices[0].text.startswith("One, two,") and told.choices[1].text.startswith("A, b,"), told)
    expect(told.choices[0].logprobs.token_logprobs[0] is None, told)
    done("completions")


def walk_responses() -> None:
    """Responses: whole, continued, streamed, structured, with a tool."""
    told = CLIENT.responses.create(model=MODEL, input=CITY_QUESTION, temperature=0, max_output_tokens=16)
    expect(told.output_text and told.usage.output_tokens > 0, told)
    more = CLIENT.responses.create(
        model=MODEL, input="And of Italy?", previous_response_id=told.id, max_output_tokens=16
    )
    expect(more.usage.input_tokens > told.usage.input_tokens, more)
    done("responses", id=told.id)
    events = list(
        CLIENT.responses.create(model=MODEL, input=CITY_QUESTION, temperature=0, max_output_tokens=16, stream=True)
    )
    kinds = [event.type for event in events]
    expect(kinds[0] == "response.created" and kinds[-1] in ("response.completed", "response.incomplete"), kinds)
    expect([event.sequence_number for event in events] == list(range(len(events))), kinds)
    done("streamed responses", events=len(events))
    parsed = CLIENT.responses.parse(model=MODEL, input=CITY_QUESTION, text_format=City, max_output_tokens=40)
    expect(isinstance(parsed.output_parsed, City), parsed)
    done("structured responses")
    tool = {"type": "function", "name": "get_weather", "parameters": PARAMETERS, "strict": True}
    fields = {"model": MODEL, "tools": [tool], "parallel_tool_calls": False, "temperature": 0, "max_output_tokens": 40}
    called = CLIENT.responses.create(**fields, input=WEATHER_QUESTION, tool_choice="required")
    (call,) = [item for item in called.output if item.type == "function_call"]
    expect(json.loads(call.arguments).keys() == {"city"}, called)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    answer = CLIENT.responses.create(**fields, input=[result], previous_response_id=called.id, tool_choice="none")
    expect(answer.output_text, answer)
    done("responses with tools", call=call.arguments)


def walk_models() -> None:
    """Models by name, and errors as the SDK's own."""
    expect(MODEL in {model.id for model in CLIENT.models.list()}, "list")
    expect(CLIENT.models.retrieve(MODEL).id == MODEL, "retrieve")
    for call in (lambda: CLIENT.models.retrieve("no/such:model"), lambda: CLIENT.moderations.create(input="a")):
        try:
            call()
        except openai.NotFoundError as exc:
            expect(exc.code in ("model_not_found", "unknown_url"), exc)
        else:
            expect(False, "an answer")
    try:
        CLIENT.chat.completions.create(model=MODEL, messages=[user("word " * 20000)])
    except openai.BadRequestError as exc:
        expect(exc.code == "context_length_exceeded", exc)
    done("models and errors")


def walk_embeddings() -> None:
    """Vectors, cut to some of their numbers."""
    told = CLIENT.embeddings.create(model=ENCODER, input=["a cat", "a dog"], dimensions=64)
    expect([len(one.embedding) for one in told.data] == [64] * 2 and told.usage.total_tokens, told.usage)
    done("embeddings")


def user(text: str) -> dict[str, str]:
    """A message."""
    return {"role": "user", "content": text}


def main() -> None:
    """Walk through all of it."""
    done("client", version=openai.__version__)
    for walk in (
        walk_chat,
        walk_structured,
        walk_completions,
        walk_models,
        walk_tools,
        walk_responses,
        walk_embeddings,
    ):
        walk()


if __name__ == "__main__":
    main()
