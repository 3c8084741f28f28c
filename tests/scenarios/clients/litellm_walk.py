"""LiteLLM: completion, stream, tools, structured output, Anthropic's and OpenAI's newer APIs, errors."""

from __future__ import annotations

import asyncio
import json
import os
from importlib.metadata import version
from typing import Literal

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # which it would fetch

import litellm
from pydantic import BaseModel
from steps import BASE_URL, CITY_QUESTION, ENCODER, MODEL, WEATHER_QUESTION, done, expect

FIELDS = {
    "model": f"openai/{MODEL}",
    "api_base": BASE_URL,
    "api_key": "none",
    "max_tokens": 40,
    "max_retries": 0,
    "temperature": 0,
}
MESSAGES = [{"role": "user", "content": CITY_QUESTION}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
        },
    },
}


class City(BaseModel):
    """A city."""

    is_capital: bool
    river: Literal["Seine", "Tiber"]


def main() -> None:
    """Walk through all of it."""
    done("client", version=version("litellm"))
    told = litellm.completion(**FIELDS, messages=MESSAGES)
    expect(told.choices[0].message.content and told.usage.completion_tokens, told)
    done("completion")
    chunks = list(litellm.completion(**FIELDS, messages=MESSAGES, stream=True, stream_options={"include_usage": True}))
    expect(any(getattr(chunk, "usage", None) for chunk in chunks), chunks[-1])
    done("stream")
    structured = litellm.completion(**FIELDS, messages=MESSAGES, response_format=City)
    City.model_validate_json(structured.choices[0].message.content)
    done("structured")
    try:
        litellm.completion(**FIELDS, messages=[{"role": "user", "content": "word " * 20000}])
    except litellm.ContextWindowExceededError:
        done("context window exceeded")
    question = [{"role": "user", "content": WEATHER_QUESTION}]
    forced = {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}
    called = litellm.completion(**FIELDS, **forced, messages=question)
    expect(json.loads(called.choices[0].message.tool_calls[0].function.arguments).keys() == {"city"}, called)
    done("tools")
    answer = litellm.responses(
        model=f"openai/{MODEL}",
        api_base=BASE_URL,
        api_key="none",
        input=CITY_QUESTION,
        max_output_tokens=16,
        temperature=0,
    )
    expect(answer.output[0].content[0].text, answer)
    done("responses")
    asked = litellm.anthropic_messages(
        model=f"anthropic/{MODEL}",
        api_base=BASE_URL.removesuffix("/v1"),
        api_key="none",
        max_tokens=16,
        temperature=0,
        messages=MESSAGES,
    )
    expect(asyncio.run(asked)["content"][0]["text"], "messages")
    done("anthropic_messages")
    vectors = litellm.embedding(model=f"openai/{ENCODER}", api_base=BASE_URL, api_key="none", input=["a cat", "a dog"])
    expect(len(vectors.data) == 2, "vectors")
    done("embeddings")


if __name__ == "__main__":
    main()
