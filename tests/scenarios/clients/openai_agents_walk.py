"""OpenAI Agents SDK: a run with a tool, a stream, structured output, over Responses (its default) and over chat."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Literal

from agents import (
    Agent,
    MaxTurnsExceeded,
    ModelSettings,
    OpenAIProvider,
    RunConfig,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from pydantic import BaseModel
from steps import BASE_URL, CITY_QUESTION, MODEL, WEATHER_QUESTION, done, expect


class City(BaseModel):
    """A city."""

    is_capital: bool
    river: Literal["Seine", "Tiber"]


@function_tool
def get_weather(city: Literal["Paris", "Rome"]) -> str:
    """Return the weather in a city."""
    return f"sunny in {city}"


async def walk(name: str, config: RunConfig) -> None:
    """Walk through one of the two APIs."""
    # The SDK takes an answer that the limit cut off for a failure.
    settings = ModelSettings(max_tokens=400, temperature=0)
    plain = Agent(name="plain", instructions="Answer in one short sentence.", model=MODEL, model_settings=settings)
    told = await Runner.run(plain, CITY_QUESTION, run_config=config)
    expect(told.final_output, told)
    more = await Runner.run(plain, [*told.to_input_list(), {"role": "user", "content": "And?"}], run_config=config)
    expect(more.final_output, more)
    done(f"{name}: run")
    run = Runner.run_streamed(plain, CITY_QUESTION, run_config=config)
    kinds = {event.data.type async for event in run.stream_events() if event.type == "raw_response_event"}
    expect({"response.created", "response.output_text.delta", "response.completed"} <= kinds, kinds)
    done(f"{name}: stream")
    structured = Agent(name="city", model=MODEL, output_type=City, model_settings=settings)
    expect(isinstance((await Runner.run(structured, CITY_QUESTION, run_config=config)).final_output, City), "City")
    done(f"{name}: structured")
    forced = ModelSettings(max_tokens=40, temperature=0, tool_choice="required", parallel_tool_calls=False)
    # After the forced call the SDK lets the model choose, which may call again.
    agent = Agent(name="weather", model=MODEL, tools=[get_weather], model_settings=forced)
    try:
        found = await Runner.run(agent, WEATHER_QUESTION, run_config=config, max_turns=4)
    except MaxTurnsExceeded as exc:
        found = exc.run_data
    outputs = [item.output for item in found.new_items if item.type == "tool_call_output_item"]
    expect(outputs and outputs[0].startswith("sunny in"), found.new_items)
    done(f"{name}: tools")


async def walk_both() -> None:
    """Walk through both APIs in one event loop, as the SDK shares its connections."""
    for name, is_responses in (("chat", False), ("responses", True)):
        provider = OpenAIProvider(base_url=BASE_URL, api_key="none", use_responses=is_responses)
        await walk(name, RunConfig(model_provider=provider, tracing_disabled=True))


def main() -> None:
    """Walk through it."""
    done("client", version=version("openai-agents"))
    set_tracing_disabled(True)
    asyncio.run(walk_both())


if __name__ == "__main__":
    main()
