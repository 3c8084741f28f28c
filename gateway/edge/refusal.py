"""An error as the answer to a request: status, OpenAI's envelope, headers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson

from gateway.dialects.dialect import Refused
from gateway.edge.http_message import header_value, status_line
from gateway.edge.turn import Turn
from gateway.errors import HTTP_ERRORS, GatewayError, envelope

CLOSE: Final = b"connection: close\r\n"
"""Header line of an answer after which the connection ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An error as a whole answer."""

    status: int
    code: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def written(self, turn: Turn, lines: bytes) -> bytes:
        """Return the bytes of the answer for the client of *turn*, with header *lines* of ours."""
        stays = b"" if turn.keeps_alive() else CLOSE
        return self.framed(turn.head_lines() + lines, stays)[turn.sent_ahead :]

    def framed(self, lines: bytes, stays: bytes) -> bytes:
        """Return the bytes of the answer with header *lines* of ours; *stays* is empty or `CLOSE`."""
        own = b"".join(b"%b: %b\r\n" % (header_value(name), header_value(text)) for name, text in self.headers.items())
        return b"%bcontent-type: application/json\r\n%b%b%bcontent-length: %d\r\n\r\n%b" % (
            status_line(self.status),
            lines,
            own,
            stays,
            len(self.body),
            self.body,
        )


def refusal_of(error: Exception) -> Refusal:
    """Return *error* as a client gets it; an error that the table does not list is a 500 without details."""
    kind = next((kind for kind in type(error).__mro__ if kind in HTTP_ERRORS), None)
    if kind is None:
        return _refusal(500, "internal_error", "internal error; the gateway's log has it", None, {})
    status, code = HTTP_ERRORS[kind]
    if not isinstance(error, GatewayError):  # only ours have fields that become headers
        return _refusal(status, code, str(error), None, {})
    headers = dict(error.headers)
    if error.retry_after_s:
        headers["retry-after"] = str(error.retry_after_s)
    return _refusal(status, code, str(error), error.param, headers)


def translated_refusal(refusal: Refusal, translate: Callable[[int, Mapping[str, Any]], Refused]) -> Refusal:
    """Return *refusal* with its status and body as a dialect has them."""
    status, body = translate(refusal.status, orjson.loads(refusal.body))
    return replace(refusal, status=status, body=orjson.dumps(body))


def _refusal(status: int, code: str, message: str, param: str | None, headers: Mapping[str, str]) -> Refusal:
    body = orjson.dumps(envelope(status, code, message, param))
    return Refusal(status=status, code=code, body=body, headers=headers)
