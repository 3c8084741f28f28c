"""A scripted engine whose answers follow from the model and the prompt, and suites that tell them apart."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from tests.stub_engine import Script, StubHandler, answer


def by_prompt(reply: Callable[[str, str, Mapping[str, Any]], str | None]) -> Script:
    """Return a script that answers what *reply* returns for model, last message and body; None is a refusal."""

    def script(handler: StubHandler) -> None:
        body = json.loads(handler.body)
        text = reply(body["model"], body["messages"][-1]["content"], body)
        if text is None:
            answer(400, b'{"error": {"message": "the prompt is too long for this engine"}}')(handler)
            return
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        whole = {"id": "chatcmpl-1", "choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}
        answer(200, orjson.dumps(whole))(handler)

    return script


def echo_suite(rows: int = 4, **fields: Any) -> dict[str, Any]:
    """Return a suite whose row `n` is right where the answer is `n`."""
    return {
        "name": "numbers",
        "rows": [
            {"prompt": str(number), "check": {"kind": "exact", "expect": str(number)}, "tags": ["odd"] * (number % 2)}
            for number in range(1, rows + 1)
        ],
        **fields,
    }
