"""Messages, and the count of their tokens, as dialects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.dialects.dialect import AnswerTranslator, Arrival, Needed, Refused, Translation
from gateway.dialects.messages.answer import MessageTranslator
from gateway.dialects.messages.count import CountTranslator
from gateway.dialects.messages.fields import asked_field
from gateway.dialects.messages.refusals import refusal_of, status_of
from gateway.dialects.messages.request import AskedCount, AskedMessage, asked_count, asked_message

Json = dict[str, Any]


class _AnthropicForm:
    """The form that both share: errors, headers, and that nothing is stored."""

    def needs(self, request: Mapping[str, Any]) -> Needed | None:
        """Return None: the request has the whole conversation."""

    def refusal(self, status: int, envelope: Mapping[str, Any], request_id: str) -> Refused:
        """Return Anthropic's error."""
        body = refusal_of(status, envelope, request_id)
        error = envelope.get("error")
        return Refused(status_of(status, error.get("code") if isinstance(error, dict) else None), body)

    def head_lines(self, request_id: bytes) -> bytes:
        """Return the header by which Anthropic's clients know the request."""
        return b"request-id: %b\r\n" % request_id


class MessagesDialect(_AnthropicForm):
    """`POST /v1/messages`, by a chat."""

    def translate(self, request: Mapping[str, Any], arrival: Arrival) -> Translation:
        """Return *request* as a chat; `InvalidRequest` names the member at fault."""
        return _TranslatedMessage(asked_message(request), arrival.token)


class CountDialect(_AnthropicForm):
    """`POST /v1/messages/count_tokens`, by a tokenization."""

    def translate(self, request: Mapping[str, Any], arrival: Arrival) -> Translation:
        """Return *request* as a tokenization; `InvalidRequest` names the member at fault."""
        return _TranslatedCount(asked_count(request), arrival.token)


class _TranslatedMessage:
    """A message, translated."""

    must_keep = False

    def __init__(self, asked: AskedMessage, token: str) -> None:
        self.body: Json = asked.chat
        self._asked = asked
        self._token = token

    def asked_field(self, field: str) -> str:
        """Return the member that a field of the chat was made from."""
        return asked_field(field, self._asked.origins)

    def begin(self) -> AnswerTranslator:
        """Return the translator of a new answer."""
        return MessageTranslator(self._asked, self._token)


class _TranslatedCount:
    """A count, translated."""

    must_keep = False

    def __init__(self, asked: AskedCount, token: str) -> None:
        self.body: Json = asked.tokenization
        self._origins = asked.origins
        self._token = token

    def asked_field(self, field: str) -> str:
        """Return the member that a field of the tokenization was made from."""
        return asked_field(field, self._origins)

    def begin(self) -> AnswerTranslator:
        """Return the translator of a new answer."""
        return CountTranslator(self._token)
