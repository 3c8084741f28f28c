"""Heads: what of a request's is looked at, and how an answer's is written."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from gateway.errors import InvalidRequest
from registry.rollouts.tally import Side

_LEGAL_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_STATUS_LINES: Final = {int(status): b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}
Headers = Sequence[tuple[bytes, bytes]]


class RequestHead:
    """A request's head; of a header that comes twice the last counts."""

    def __init__(self, path: str, headers: Headers, new_id: bytes) -> None:
        """*headers* have lower-case names. The id is the caller's own if it is a plain token, else the *new_id*."""
        self.path = path
        self.headers: Mapping[bytes, bytes] = dict(headers)
        offered = self.headers.get(b"x-request-id")
        self.request_id = offered if offered is not None and _LEGAL_ID.fullmatch(offered) else new_id

    def text(self, name: bytes) -> str | None:
        """A header's value, None without it."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def side(self) -> Side | None:
        """The side that `x-lorry-side` names; `InvalidRequest` for another value."""
        value = self.text(b"x-lorry-side")
        if value is None:
            return None
        if value in (Side.CANARY, Side.STABLE):
            return Side(value)
        raise InvalidRequest(f"x-lorry-side must be canary or stable; got {value[:64]!r}", param="x-lorry-side")

    def timeout_s(self, default: float) -> float:
        """How long the answer may take to begin: `x-request-timeout`, at most *default*, which it is without one."""
        value = self.text(b"x-request-timeout")
        if value is None:
            return default
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not seconds > 0:
            raise InvalidRequest(
                f"x-request-timeout must be seconds above 0; got {value[:64]!r}", param="x-request-timeout"
            )
        return min(seconds, default)


class DefaultLines:
    """Header lines that every answer carries, made anew when uvicorn has a new list of them, which is every second."""

    def __init__(self) -> None:
        self._headers: Headers = ()
        self._lines = b""

    def of(self, headers: Headers) -> bytes:
        """The lines of these headers."""
        if headers is not self._headers:
            self._headers, self._lines = headers, b"".join([b"%b: %b\r\n" % header for header in headers])
        return self._lines


def status_line(status: int) -> bytes:
    """The first line of an answer."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


@lru_cache(maxsize=4096)
def header_value(text: str) -> bytes:
    """*text* as it may stand in a header; what may not is spelt out."""
    return text.encode("ascii", "backslashreplace").replace(b"\r", b"").replace(b"\n", b"")
