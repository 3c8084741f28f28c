"""OpenAI's Responses, answered through a chat. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from gateway.dialects.dialect import AnswerTranslator, Arrival, Needed, Refused, Translation
from gateway.dialects.responses.count import CountTranslator, tokenization_of
from gateway.dialects.responses.fields import member
from gateway.dialects.responses.items import referenced_in, response_id_of
from gateway.dialects.responses.output import ResponseOutput
from gateway.dialects.responses.request import AskedResponse, asked_of
from registry.responses.types import StoredResponse

_INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""The chat's reason to finish -> why the response is incomplete."""
_FAILED: Final = frozenset({"abort", "error"})
"""Reasons with which some engines end an answer that they gave up."""
_NAMES: Final = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "logprobs": "include",
}
"""Field of the chat -> the field of the response that it, and what is in it, was made from."""
_FIRST_NAME: Final = re.compile(r"\w+")


class ResponsesDialect:
    """The dialect of `POST /v1/responses`."""

    def __init__(self, *, may_store: bool) -> None:
        self._may_store = may_store

    def needs(self, request: Mapping[str, Any]) -> Needed | None:
        """Return the response that *request* goes on from, and those whose items it refers to."""
        previous = member(request, "previous_response_id", str)
        others = referenced_in(request.get("input"))
        return Needed(previous, others) if previous is not None or others else None

    def translate(self, request: Mapping[str, Any], arrival: Arrival) -> Translation:
        """Return *request* translated; `InvalidRequest`."""
        return ResponsesTranslation(asked_of(request, arrival, may_store=self._may_store))

    def refusal(self, status: int, envelope: Mapping[str, Any], request_id: str) -> Refused:
        """Return the error in OpenAI's envelope, as everywhere."""
        return Refused(status, envelope)

    def head_lines(self, request_id: bytes) -> bytes:
        """Return nothing: clients read the headers of every path."""
        return b""


class InputTokensDialect(ResponsesDialect):
    """The dialect of `POST /v1/responses/input_tokens`, which asks for the size of a prompt."""

    def __init__(self) -> None:
        super().__init__(may_store=True)

    def translate(self, request: Mapping[str, Any], arrival: Arrival) -> Translation:
        """Return *request* as a tokenization of the chat's prompt; `InvalidRequest`."""
        return InputTokensTranslation(asked_of(request, arrival, may_store=True))


class ResponsesTranslation:
    """A request in Responses' form, as the chat that answers it."""

    def __init__(self, asked: AskedResponse) -> None:
        self._asked = asked
        self.body = asked.chat
        self.must_keep = asked.must_keep

    def asked_field(self, field: str) -> str:
        """Return the field of the response that *field* of the chat was made from."""
        found = _FIRST_NAME.match(field)
        first = "" if found is None else found[0]
        if first == "tools":
            return field.replace(".function", "", 1)
        return _NAMES.get(first, field)

    def begin(self) -> AnswerTranslator:
        """Return the translator of a new answer."""
        return ResponseTranslator(self._asked)


class InputTokensTranslation(ResponsesTranslation):
    """A request in Responses' form whose prompt is counted."""

    def __init__(self, asked: AskedResponse) -> None:
        super().__init__(asked)
        self.body = tokenization_of(asked.chat)
        self.must_keep = False

    def begin(self) -> AnswerTranslator:
        """Return the translator of a tokenization."""
        return CountTranslator()


class ResponseTranslator:
    """The translator of a chat's answer into a response."""

    def __init__(self, asked: AskedResponse) -> None:
        self.answer_id = response_id_of(asked.token)
        self._asked = asked
        self._output = ResponseOutput(asked.token)
        self._model = ""
        self._finish: str | None = None
        self._usage: dict[str, Any] | None = None
        self._is_streamed = False
        self._last = b""
        """The events before the last one."""
        self._response: dict[str, Any] = {}

    def chunk(self, chunk: Mapping[str, Any]) -> bytes:
        """Return the events that a chunk becomes."""
        self._model = self._model or chunk.get("model") or ""
        out = self._begin()
        self._usage = _usage_of(chunk.get("usage")) or self._usage
        for choice in chunk["choices"]:
            out += self._read(choice, choice["delta"])
        return out

    def whole(self, answer: Mapping[str, Any]) -> None:
        """Take the answer in."""
        self._model = answer.get("model") or ""
        self._usage = _usage_of(answer.get("usage"))
        choice = answer["choices"][0]
        self._read(choice, choice["message"])

    def to_keep(self, at: float) -> StoredResponse | None:
        """Return the response with the items of its request, where it is to be stored."""
        status, error, reason = self._outcome()
        self._last = self._output.finish("completed" if status == "completed" else "incomplete")
        self._response = self._as_response(status) | {
            "completed_at": int(at) if status == "completed" else None,
            "error": error,
            "incomplete_details": reason,
            "output": self._output.items,
            "usage": self._usage,
        }
        if not self._asked.is_stored or error is not None:
            return None
        previous = self._response["previous_response_id"]
        return StoredResponse(
            id=self.answer_id,
            previous=previous,
            body=self._response,
            input_items=self._asked.items,
            created_at=self._asked.at,
        )

    def end(self, *, is_kept: bool) -> bytes:
        """Return the last events, or the whole response; its `store` shows whether it was stored."""
        response = self._response | {"store": is_kept}
        if not self._is_streamed:
            return orjson.dumps(response)
        return self._last + self._output.event(f"response.{response['status']}", response=response)

    def broke(self, error: Mapping[str, Any]) -> bytes:
        """Return the error, and the response as it failed."""
        out = self._begin() + self._last + self._output.close("incomplete")
        fault = error["error"]
        out += self._output.event("error", code=fault.get("code"), message=fault["message"], param=fault.get("param"))
        shown = {"code": "server_error", "message": fault["message"]}
        failed = {"error": shown, "output": self._output.items, "store": False}
        return out + self._output.event("response.failed", response=self._as_response("failed") | failed)

    def _begin(self) -> bytes:
        if self._is_streamed:
            return b""
        self._is_streamed = True
        response = self._as_response("in_progress")
        return b"".join(
            self._output.event(kind, response=response) for kind in ("response.created", "response.in_progress")
        )

    def _read(self, choice: Mapping[str, Any], said: Mapping[str, Any]) -> bytes:
        """Take in the content of a choice: its delta, or its whole message."""
        output = self._output
        out = b""
        if reasoning := said.get("reasoning_content") or said.get("reasoning"):
            out += output.add_reasoning(reasoning)
        logprobs = (choice.get("logprobs") or {}).get("content") or ()
        if (text := said.get("content")) or logprobs:
            out += output.add_text(text or "", logprobs)
        if refusal := said.get("refusal"):
            out += output.add_refusal(refusal)
        for place, call in enumerate(said.get("tool_calls") or ()):
            out += output.add_call(call.get("index", place), call)
        self._finish = choice.get("finish_reason") or self._finish
        return out

    def _outcome(self) -> tuple[str, dict[str, Any] | None, dict[str, Any] | None]:
        """Return status, error, and why the response is incomplete; `ValueError` without the end of an answer."""
        if self._finish is None:
            raise ValueError("the answer ended without its reason")
        if self._finish in _FAILED:
            message = f"the engine gave the answer up ({self._finish})"
            return "failed", {"code": "server_error", "message": message}, None
        reason = _INCOMPLETE.get(self._finish)
        return ("completed", None, None) if reason is None else ("incomplete", None, {"reason": reason})

    def _as_response(self, status: str) -> dict[str, Any]:
        template = self._asked.template
        return {**template, "status": status, "model": self._model or template["model"]}


def _usage_of(usage: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the chat's usage as a response has it."""
    if not usage:
        return None
    read, written = usage["prompt_tokens"], usage.get("completion_tokens") or 0
    read_details = usage.get("prompt_tokens_details") or {}
    details = usage.get("completion_tokens_details") or {}
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": read_details.get("cached_tokens") or 0, "cache_write_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": details.get("reasoning_tokens") or 0},
        "total_tokens": usage.get("total_tokens") or read + written,
    }
