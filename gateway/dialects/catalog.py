"""The dialects, a line each."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.dialects.dialect import Dialect
from gateway.dialects.messages.dialect import CountDialect, MessagesDialect
from gateway.dialects.responses.dialect import InputTokensDialect, ResponsesDialect
from gateway.settings import GatewaySettings


def dialects_of(settings: GatewaySettings) -> Mapping[str, Dialect]:
    """Return the dialect of every path whose requests are answered through another path."""
    return {
        "/v1/responses": ResponsesDialect(may_store=settings.store_responses),
        "/v1/responses/input_tokens": InputTokensDialect(),
        "/v1/messages": MessagesDialect(),
        "/v1/messages/count_tokens": CountDialect(),
    }
