"""LangChain: chat, streams, three forms of structured output, an agent with a tool, Responses."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Literal

import openai
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRequest, ModelResponse, wrap_model_call
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel
from steps import BASE_URL, CITY_QUESTION, ENCODER, MODEL, WEATHER_QUESTION, done, expect


class City(BaseModel):
    """A city."""

    is_capital: bool
    river: Literal["Seine", "Tiber"]


@tool
def get_weather(city: Literal["Paris", "Rome"]) -> str:
    """Return the weather in a city."""
    return f"sunny in {city}"


def model(**fields: object) -> ChatOpenAI:
    """The model with these fields."""
    known = {
        "model": MODEL,
        "base_url": BASE_URL,
        "api_key": "none",
        "max_retries": 0,
        "temperature": 0,
        "max_tokens": 40,
    }
    return ChatOpenAI(**(known | fields))


@wrap_model_call
def force_one_call(request: ModelRequest, handler: Callable[[ModelRequest], ModelResponse]) -> ModelResponse:
    """Have the first step call the tool and the second one answer, as a small model does neither by itself."""
    is_called = any(isinstance(message, ToolMessage) for message in request.messages)
    one = {**request.model_settings, "parallel_tool_calls": False}
    return handler(request.override(tool_choice="none" if is_called else "required", model_settings=one))


def walk_agent(chat: ChatOpenAI) -> None:
    """An agent calls its tool and answers."""
    agent = create_agent(chat, [get_weather], middleware=[force_one_call])
    messages = agent.invoke({"messages": [("user", WEATHER_QUESTION)]})["messages"]
    kinds = [type(message).__name__ for message in messages]
    expect(kinds == ["HumanMessage", "AIMessage", "ToolMessage", "AIMessage"], kinds)
    expect(messages[2].content.startswith("sunny in"), messages)


def main() -> None:
    """Walk through all of it."""
    done("client", version=version("langchain-openai"))
    chat = model()
    told = chat.invoke(CITY_QUESTION)
    expect(isinstance(told, AIMessage) and told.content and told.usage_metadata["output_tokens"], told)
    done("chat")
    chunks = list(model(stream_usage=True).stream(CITY_QUESTION))
    expect(sum(chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata), chunks[-1])
    done("stream")
    for method in ("json_schema", "json_mode", "function_calling"):
        structured = chat.with_structured_output(City, method=method, include_raw=True)
        # `json_mode` promises JSON, not the schema, which a small model does not follow, nor an end of it.
        try:
            found = structured.invoke(CITY_QUESTION + " Answer in JSON.")
            expect(found["parsed"] is not None or method == "json_mode", found)
        except openai.LengthFinishReasonError as exc:
            expect(method == "json_mode", exc)
        done(f"structured by {method}")
    try:
        chat.invoke("word " * 20000)
    except ContextOverflowError:
        done("context overflow")
    walk_agent(chat)
    done("agent")
    responses = model(use_responses_api=True)
    expect(responses.invoke(CITY_QUESTION).text, "responses")
    expect("".join(chunk.text for chunk in responses.stream(CITY_QUESTION)), "streamed responses")
    walk_agent(responses)
    done("responses")
    # By itself it sends the token ids of an OpenAI model.
    encoder = OpenAIEmbeddings(model=ENCODER, base_url=BASE_URL, api_key="none", check_embedding_ctx_length=False)
    expect([len(vector) for vector in encoder.embed_documents(["a cat", "a dog"])] == [384] * 2, "vectors")
    done("embeddings")


if __name__ == "__main__":
    main()
