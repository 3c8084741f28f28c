"""Requests and answers of Responses for tests, read strictly by the types of OpenAI's SDK."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from openai.types.responses import Response, ResponseItem, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from gateway.dialects.dialect import AnswerTranslator, Arrival
from gateway.dialects.responses.dialect import ResponsesDialect
from registry.responses.types import StoredResponse

TOKEN: Final = "ab" * 24
DIALECT: Final = ResponsesDialect(may_store=True)
EVENT: Final[TypeAdapter[Any]] = TypeAdapter(ResponseStreamEvent)
ITEM: Final[TypeAdapter[Any]] = TypeAdapter(ResponseItem)
WEATHER: Final = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
USAGE: Final = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def chat(arrival: Arrival | None = None, **request: Any) -> Mapping[str, Any]:
    return DIALECT.translate({"model": "m"} | request, arrival or Arrival(1.0, TOKEN)).body


def messages(given: Any, **request: Any) -> Any:
    return chat(input=given, **request)["messages"]


def begun(**request: Any) -> AnswerTranslator:
    return DIALECT.translate({"model": "m", "input": "hi"} | request, Arrival(1.0, TOKEN)).begin()


def message(answer: Mapping[str, Any], finish: str = "stop", **choice: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": None} | dict(answer)
    return {
        "model": "m@1",
        "choices": [{"index": 0, "message": said, "finish_reason": finish} | choice],
        "usage": USAGE,
    }


def whole(answer: Mapping[str, Any], **request: Any) -> dict[str, Any]:
    """The response, read strictly by the SDK's type."""
    translator = begun(**request)
    translator.whole(answer)
    translator.to_keep(2.0)
    body = translator.end(is_kept=True)
    read = Response.model_validate_json(body, strict=True)
    unknown_members(read)
    found: dict[str, Any] = orjson.loads(body)
    return found


def delta(finish: str | None = None, usage: Any = None, **said: Any) -> dict[str, Any]:
    logprobs = said.pop("logprobs", None)
    choice = {"index": 0, "delta": said, "finish_reason": finish, "logprobs": logprobs}
    return {"model": "m@1", "choices": [choice], "usage": usage}


def events(chunks: Sequence[Mapping[str, Any]], **request: Any) -> list[dict[str, Any]]:
    """The events of the stream, each read strictly by the SDK's type."""
    translator = begun(stream=True, **request)
    sent = b"".join([translator.chunk(chunk) for chunk in chunks])
    translator.to_keep(2.0)
    return read_events(sent + translator.end(is_kept=True))


def read_events(sent: bytes) -> list[dict[str, Any]]:
    found = []
    for event in sent.decode().split("\n\n")[:-1]:
        name, data = event.split("\n")
        unknown_members(EVENT.validate_json(data.removeprefix("data: ")))
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    assert [each["sequence_number"] for each in found] == list(range(len(found)))
    return found


def unknown_members(value: Any) -> None:
    """Fail where a member is not of the SDK's type; `store` is OpenAI's own and not among its types."""
    if isinstance(value, BaseModel):
        assert set(value.model_extra or {}) <= {"store"}, (type(value), value.model_extra)
        for name in type(value).model_fields:
            unknown_members(getattr(value, name))
    elif isinstance(value, list):
        for each in value:
            unknown_members(each)


def stored(**members: Any) -> StoredResponse:
    body = {"id": f"resp_{TOKEN}", "output": [], **members}
    return StoredResponse(id=body["id"], previous=None, body=body, input_items=(), created_at=0.0)
