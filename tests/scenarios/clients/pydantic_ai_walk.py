"""Pydantic AI: text, streams, output by tool and by schema, tools, over chat and over Responses."""

from __future__ import annotations

from importlib.metadata import version
from typing import Literal

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, ToolOutput, UsageLimitExceeded, UsageLimits
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings
from steps import BASE_URL, CITY_QUESTION, MODEL, WEATHER_QUESTION, done, expect

PROVIDER = OpenAIProvider(base_url=BASE_URL, api_key="none")
SETTINGS = ModelSettings(max_tokens=40, temperature=0, parallel_tool_calls=False)


class City(BaseModel):
    """A city."""

    is_capital: bool
    river: Literal["Seine", "Tiber"]


class Weather(BaseModel):
    """The weather."""

    sky: Literal["sunny", "grey"]


def walk(name: str, model: OpenAIChatModel | OpenAIResponsesModel) -> None:
    """Walk through one of the two APIs."""
    plain = Agent(model, model_settings=SETTINGS)
    told = plain.run_sync(CITY_QUESTION)
    expect(told.output and told.usage.output_tokens, told)
    more = plain.run_sync("And of Italy?", message_history=told.all_messages())
    expect(more.output, more)
    done(f"{name}: text")
    streamed = plain.run_stream_sync(CITY_QUESTION)
    expect(list(streamed.stream_text(delta=True)), "stream")
    done(f"{name}: stream")
    for kind in (NativeOutput, ToolOutput):
        output = Agent(model, output_type=kind(City), model_settings=SETTINGS).run_sync(CITY_QUESTION).output
        expect(isinstance(output, City), output)
        done(f"{name}: {kind.__name__}")
    expect(walk_tools(model), "no call")
    done(f"{name}: tools")


def walk_tools(model: OpenAIChatModel | OpenAIResponsesModel) -> bool:
    """Return whether the model called its tool, or its output's, in an agent that takes nothing but calls."""
    asked = []
    agent = Agent(model, output_type=ToolOutput(Weather), model_settings=SETTINGS)

    @agent.tool_plain
    def get_weather(city: Literal["Paris", "Rome"]) -> str:
        """Return the weather in a city."""
        asked.append(city)
        return "sunny"

    # Which of the two the model calls is its own to say, so that it may call the first one for ever.
    try:
        output = agent.run_sync(WEATHER_QUESTION, usage_limits=UsageLimits(request_limit=3)).output
    except UsageLimitExceeded:
        return bool(asked)
    return isinstance(output, Weather)


def main() -> None:
    """Walk through both APIs."""
    done("client", version=version("pydantic-ai-slim"))
    walk("chat", OpenAIChatModel(MODEL, provider=PROVIDER))
    walk("responses", OpenAIResponsesModel(MODEL, provider=PROVIDER))


if __name__ == "__main__":
    main()
