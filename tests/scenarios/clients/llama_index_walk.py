"""LlamaIndex: chat, completion, streams, structured output."""

from __future__ import annotations

from importlib.metadata import version
from typing import Literal

from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel
from steps import BASE_URL, CITY_QUESTION, MODEL, done, expect


class City(BaseModel):
    """A city."""

    is_capital: bool
    river: Literal["Seine", "Tiber"]


def main() -> None:
    """Walk through all of it."""
    done("client", version=version("llama-index-llms-openai-like"))
    fields = {"model": MODEL, "api_base": BASE_URL, "api_key": "none", "max_tokens": 40, "max_retries": 0}
    chat = OpenAILike(**fields, is_chat_model=True, is_function_calling_model=True)
    messages = [ChatMessage(role="user", content=CITY_QUESTION)]
    expect(chat.chat(messages).message.content, "chat")
    expect("".join(part.delta or "" for part in chat.stream_chat(messages)), "stream")
    done("chat")
    plain = OpenAILike(**fields, is_chat_model=False)
    expect(plain.complete("One, two,").text, "completion")
    expect("".join(part.delta or "" for part in plain.stream_complete("One, two,")), "stream")
    done("completion")
    expect(isinstance(chat.structured_predict(City, _prompt()), City), "City")
    done("structured")


def _prompt() -> object:
    from llama_index.core.prompts import PromptTemplate

    return PromptTemplate(CITY_QUESTION)


if __name__ == "__main__":
    main()
