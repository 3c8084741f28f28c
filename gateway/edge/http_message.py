"""HTTP messages of the hot path: what is read of a request's head and body, how an answer's head is written."""

from __future__ import annotations

import math
import re
from codecs import BOM_UTF8
from collections.abc import Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from itertools import count
from secrets import token_hex
from typing import Any, Final, Protocol

import msgspec
from msgspec import Raw

from engines.catalog import ADDRESS_FIELDS
from gateway.edge.form import LONGEST_NAME, parse_form
from gateway.edge.json_values import TOO_DEEP, values_of
from gateway.edge.neutral import NEUTRAL_FIELDS, NULL, without_neutral, without_nulls_in
from gateway.edge.token_estimate import TokenEstimate, estimate_of
from gateway.errors import InvalidRequest
from gateway.foreign_pages import BROWSERS_HEADERS, check_is_json
from gateway.routing.enforceable import PRESCRIBING
from gateway.routing.paths import PathKind
from registry.rollouts.tally import Side

PREFIX_BYTES: Final = 512
"""How many bytes of a prompt's beginning decide which requests share a prefix."""

Headers = Sequence[tuple[bytes, bytes]]
# An id stands in header lines as it came, so no character of it may end a line.
_LEGAL_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_STATUS_LINES: Final = {int(status): b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}
_MEMBERS: Final = msgspec.json.Decoder(dict[str, Raw])
_TEXT: Final = msgspec.json.Decoder(str)
_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])
_ENCODER: Final = msgspec.json.Encoder()
_TRUE: Final = Raw(b"true")
_ASK_FOR_USAGE: Final = Raw(b'{"include_usage":true}')
_REFUSED_FIELDS: Final = ADDRESS_FIELDS - {"model"}


class RequestIdSource:
    """Ids for requests that bring none, unlike those of any other gateway."""

    def __init__(self) -> None:
        self._process = token_hex(8).encode()
        self._numbers = count()

    def new(self) -> bytes:
        """Return an id that no other request has."""
        return b"req-%b%012x" % (self._process, next(self._numbers))


class RequestHead:
    """A request's head; of a header that is sent twice the last one counts."""

    def __init__(self, path: str, headers: Headers, new_id: bytes) -> None:
        """*headers* have lower-case names; the id is the caller's own if that is a plain token, else *new_id*."""
        self.path = path
        self.headers: Mapping[bytes, bytes] = dict(headers)
        offered = self.headers.get(b"x-request-id")
        self.request_id = offered if offered is not None and _LEGAL_ID.fullmatch(offered) else new_id

    def text(self, name: bytes) -> str | None:
        """Return a header's value, None without it."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def side(self) -> Side | None:
        """The side of a rollout that `x-lorry-side` names; `InvalidRequest` for another value."""
        sent = self.headers.get(b"x-lorry-side")
        if sent is None:
            return None
        value = sent.decode("latin-1")
        if value in (Side.CANARY, Side.STABLE):
            return Side(value)
        raise InvalidRequest(f"x-lorry-side must be canary or stable; got {value[:64]!r}", param="x-lorry-side")

    def timeout_s(self, default: float) -> float:
        """Return how long the answer may take to begin: `x-request-timeout` if that is less than *default*."""
        sent = self.headers.get(b"x-request-timeout")
        if sent is None:
            return default
        value = sent.decode("latin-1")
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        # The test `seconds <= 0` would let NaN pass.
        if not seconds > 0:
            raise InvalidRequest(
                f"x-request-timeout must be seconds above 0; got {value[:64]!r}", param="x-request-timeout"
            )
        return min(seconds, default)


class RequestBody(Protocol):
    """A request's body, JSON or a form, as far as the hot path looks at it."""

    model: str
    is_streamed: bool
    """True if the client wants server-sent events."""
    size: int
    """Bytes as they were sent."""
    prescribes: bool
    """The request may prescribe a form of its answer, or offers tools."""
    content_type: bytes
    """Content type with which the body goes to an engine."""

    @property
    def wants_usage(self) -> bool:
        """Whether the client wants the usage at the end of a stream."""
        ...

    def estimate(self) -> TokenEstimate:
        """Return the tokens that the request may use; costly, so only for keys with limits."""
        ...

    def prefix(self) -> bytes:
        """Return the prompt's first bytes, as they were sent."""
        ...

    def whole(self, *, ask_for_usage: bool = False) -> Mapping[str, Any]:
        """Return the decoded body without an engine's address; costly, so only for rollouts."""
        ...

    def for_engine(self, address: Mapping[str, str], *, ask_for_usage: bool) -> bytes:
        """Return the bytes for an engine with this *address*; *ask_for_usage*: it is to send the usage of a stream."""
        ...


class JsonBody:
    """A JSON object, whose values go on byte for byte, except those that ask for nothing: these stay behind.

    A member that is sent twice is judged by its last value, and only that goes on: an engine that would read the first
    one sees what the gateway saw.
    """

    content_type = b"application/json"

    def __init__(self, raw: bytes, kind: PathKind) -> None:
        """`InvalidRequest` if *raw* is not a JSON object, names no model, or names weights in another way."""
        self._members = _asked_of(members_of(raw), kind, may_have_nulls=b"null" in raw)
        self._kind = kind
        self.size = len(raw)
        self.prescribes = kind.is_judged and not PRESCRIBING.isdisjoint(self._members)
        self.model = _model_of(self._members)
        self.is_streamed = kind.may_stream and self._members.get("stream") == _TRUE

    @property
    def wants_usage(self) -> bool:
        return self._stream_options().get("include_usage") is True

    def estimate(self) -> TokenEstimate:
        return estimate_of(self._members, self.size, self._kind.prompt_fields, is_answered=self._kind.may_stream)

    def prefix(self) -> bytes:
        prefix = b""
        for name in self._kind.prompt_fields:
            if name in self._members:
                prefix += memoryview(self._members[name])[:PREFIX_BYTES]
        return prefix

    def whole(self, *, ask_for_usage: bool = False) -> Mapping[str, Any]:
        raw = self.for_engine({}, ask_for_usage=ask_for_usage)
        try:
            return _OBJECT.decode(raw)
        except (msgspec.DecodeError, RecursionError):
            return values_of(members_of(raw))  # which names the member

    def for_engine(self, address: Mapping[str, str], *, ask_for_usage: bool) -> bytes:
        if not ask_for_usage and len(address) == 1 and address.get("model") == self.model:
            return _ENCODER.encode(self._members)
        sent = self._members.copy()
        for name, value in address.items():
            sent[name] = Raw(_ENCODER.encode(value))
        if ask_for_usage:
            options = self._stream_options()
            sent["stream_options"] = (
                Raw(_ENCODER.encode(options | {"include_usage": True})) if options else _ASK_FOR_USAGE
            )
        return _ENCODER.encode(sent)

    def _stream_options(self) -> dict[str, Any]:
        options = self._members.get("stream_options")
        if options is None:
            return {}
        try:
            return _OBJECT.decode(options)
        except msgspec.DecodeError:
            return {}


def body_of(raw: bytes, kind: PathKind, head: RequestHead) -> RequestBody:
    """Return the body of a request of this kind; `InvalidRequest`."""
    if kind.is_multipart:
        return parse_form(raw, head.text(b"content-type") or "")
    if head.headers.get(b"content-type") != JsonBody.content_type:
        check_is_json(head.text(b"content-type"), is_from_browser=not BROWSERS_HEADERS.isdisjoint(head.headers))
    return JsonBody(raw, kind)


def members_of(raw: bytes) -> dict[str, Raw]:
    """Return the members of a JSON object, their values as they came; `InvalidRequest` if *raw* is not one."""
    if raw.startswith(BOM_UTF8):  # RFC 8259, 8.1: a parser may ignore it
        raw = raw[len(BOM_UTF8) :]
    try:
        if not raw.isascii():
            raw.decode()  # the decoder leaves text alone that it does not look at
        return _MEMBERS.decode(raw)
    except msgspec.ValidationError as exc:
        raise InvalidRequest("the body must be a JSON object") from exc
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"the body is not JSON in UTF-8: byte {exc.start} cannot be decoded") from exc
    except RecursionError as exc:
        raise InvalidRequest(TOO_DEEP) from exc
    except ValueError as exc:
        raise InvalidRequest(f"the body is not JSON: {exc}") from exc


def _asked_of(members: dict[str, Raw], kind: PathKind, *, may_have_nulls: bool) -> dict[str, Raw]:
    """Return the members that ask for something."""
    if may_have_nulls:
        members = {name: raw for name, raw in members.items() if raw != NULL}
        if kind.has_chat_messages and "messages" in members:
            members["messages"] = without_nulls_in(members["messages"])
    if kind.is_judged and not NEUTRAL_FIELDS.isdisjoint(members):
        return without_neutral(members)
    return members


def _model_of(members: Mapping[str, Raw]) -> str:
    if not _REFUSED_FIELDS.isdisjoint(members):
        field = min(_REFUSED_FIELDS & members.keys())
        raise InvalidRequest(f"{field} is not taken here: an adapter is named by model", param=field)
    try:
        model = _TEXT.decode(members["model"]) if "model" in members else ""
    except msgspec.DecodeError:
        model = ""
    # The search for names like an unknown one takes seconds for a name of megabytes.
    if not 0 < len(model) <= LONGEST_NAME:
        raise InvalidRequest("model must be the name of a model; GET /v1/models lists them", param="model")
    return model


class DefaultLines:
    """Header lines that every answer carries, written anew when uvicorn has a new list of them, every second."""

    def __init__(self) -> None:
        self._headers: Headers = ()
        self._lines = b""

    def of(self, headers: Headers) -> bytes:
        """Return the lines of these headers."""
        if headers is not self._headers:
            self._headers, self._lines = headers, b"".join([b"%b: %b\r\n" % header for header in headers])
        return self._lines


def status_line(status: int) -> bytes:
    """Return the first line of an answer."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


@lru_cache(maxsize=4096)
def replica_lines(served_name: str, replica: str) -> bytes:
    """Return the header lines that name the revision or base model of an answer and its replica."""
    return b"x-lorry-revision: %b\r\nx-lorry-replica: %b\r\n" % (header_value(served_name), header_value(replica))


def header_value(text: str) -> bytes:
    """Return *text* as it may stand in a header; other characters are spelt out."""
    # A line end would begin another header line (RFC 9110, 5.5).
    return text.encode("ascii", "backslashreplace").replace(b"\r", b"").replace(b"\n", b"")
