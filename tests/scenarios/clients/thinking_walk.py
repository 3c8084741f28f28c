"""Anthropic's SDK with a model that thinks and reads pictures: a scripted engine answers in this order."""

from __future__ import annotations

import anthropic
from steps import BASE_URL, MODEL, done, expect

CLIENT = anthropic.Anthropic(base_url=BASE_URL.removesuffix("/v1"), api_key="none", max_retries=0)
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DOT}}
FIELDS = {"model": MODEL, "max_tokens": 2000, "thinking": {"type": "enabled", "budget_tokens": 1024}}


def main() -> None:
    """Walk through all of it."""
    question = {"role": "user", "content": "2 + 2?"}
    told = CLIENT.messages.create(**FIELDS, messages=[question])
    expect([block.type for block in told.content] == ["thinking", "text"], told)
    expect((told.content[0].thinking, told.content[1].text) == ("Two and two.", "Four."), told)
    done("thinking")
    turns = [question, {"role": "assistant", "content": told.content}, {"role": "user", "content": "And 3?"}]
    with CLIENT.messages.stream(**FIELDS, messages=turns) as stream:
        thoughts = "".join(event.thinking for event in stream if event.type == "thinking")
        final = stream.get_final_message()
    expect([block.type for block in final.content] == ["thinking", "text"], final)
    expect((thoughts, final.content[1].text) == ("Two and two.", "Four."), final)
    done("streamed thinking")
    looks = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, PICTURE]}]
    expect(CLIENT.messages.create(model=MODEL, max_tokens=8, messages=looks).content[-1].text == "Four.", "a text")
    done("picture")
    try:
        CLIENT.messages.create(model=MODEL, max_tokens=8, messages=looks)
    except anthropic.BadRequestError as exc:
        expect("messages[0].content[1]" in exc.body["error"]["message"], exc.body)
    else:
        expect(False, "an answer")
    done("picture refused")


if __name__ == "__main__":
    main()
