"""A request's body: the few members that routing looks at, and the bytes that an engine gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec
from msgspec import Raw

from engines.catalog import ADDRESS_FIELDS
from gateway.edge.form import parse_form
from gateway.edge.head import RequestHead
from gateway.errors import InvalidRequest
from gateway.routing.paths import PathKind

PREFIX_BYTES: Final = 512
"""So much of a prompt's beginning tells which requests share a prefix."""

_MEMBERS: Final = msgspec.json.Decoder(dict[str, Raw])
_TEXT: Final = msgspec.json.Decoder(str)
_NUMBER: Final = msgspec.json.Decoder(int)
_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])
_ENCODER: Final = msgspec.json.Encoder()
_TRUE: Final = Raw(b"true")
_ASK_FOR_USAGE: Final = Raw(b'{"include_usage":true}')
_REFUSED_FIELDS: Final = ADDRESS_FIELDS - {"model"}
_ANSWER_LIMITS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens")


class RequestBody(Protocol):
    """What the hot path asks of a body, however it is encoded."""

    model: str
    is_streamed: bool
    """The client wants server-sent events."""
    size: int
    """Bytes as they came."""
    content_type: bytes
    """How it goes to an engine."""

    @property
    def wants_usage(self) -> bool:
        """The client wants a stream to say its usage."""
        ...

    @property
    def answer_tokens(self) -> int | None:
        """The longest answer that the request allows, None where it sets no limit."""
        ...

    def prefix(self) -> bytes:
        """The prompt's first bytes, as they were sent."""
        ...

    def whole(self, *, ask_for_usage: bool = False) -> Mapping[str, Any]:
        """All of it, decoded, as an engine gets it but for its address; costly, so only for rollouts."""
        ...

    def for_engine(self, address: Mapping[str, str], *, ask_for_usage: bool) -> bytes:
        """The bytes for an engine that is addressed so; with *ask_for_usage* it is to say the usage of a stream."""
        ...


class JsonBody:
    """A JSON object. Values go on byte for byte; of a member that is given twice the last goes on, and it is judged on.

    So an engine that would read the first one sees what the gateway saw, and none sees a name that was spelt twice.
    """

    def __init__(self, raw: bytes, kind: PathKind) -> None:
        """`InvalidRequest` if it is no JSON object, names no model, or names weights in another way."""
        self._members = _members_of(raw)
        self._kind = kind
        self.size = len(raw)
        self.content_type = b"application/json"
        self.model = _model_of(self._members)
        self.is_streamed = kind.may_stream and self._members.get("stream") == _TRUE

    @property
    def wants_usage(self) -> bool:
        return self._stream_options().get("include_usage") is True

    @property
    def answer_tokens(self) -> int | None:
        for name in _ANSWER_LIMITS:
            if name in self._members:
                try:
                    return max(0, _NUMBER.decode(self._members[name]))
                except msgspec.DecodeError:
                    return None  # the engine refuses it, or it is null
        return None

    def prefix(self) -> bytes:
        prefix = b""
        for name in self._kind.prompt_fields:
            if name in self._members:
                prefix += memoryview(self._members[name])[:PREFIX_BYTES]
        return prefix

    def whole(self, *, ask_for_usage: bool = False) -> Mapping[str, Any]:
        return _OBJECT.decode(self.for_engine({}, ask_for_usage=ask_for_usage))

    def for_engine(self, address: Mapping[str, str], *, ask_for_usage: bool) -> bytes:
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
    """The body of a request of this kind; `InvalidRequest`."""
    return parse_form(raw, head.text(b"content-type") or "") if kind.is_multipart else JsonBody(raw, kind)


def _members_of(raw: bytes) -> dict[str, Raw]:
    try:
        if not raw.isascii():
            raw.decode()  # the decoder leaves text alone that it does not look at
        return _MEMBERS.decode(raw)
    except msgspec.ValidationError as exc:
        raise InvalidRequest("the body must be a JSON object") from exc
    except (ValueError, RecursionError) as exc:
        raise InvalidRequest(f"the body is not JSON: {exc}") from exc


def _model_of(members: Mapping[str, Raw]) -> str:
    if not _REFUSED_FIELDS.isdisjoint(members):
        field = min(_REFUSED_FIELDS & members.keys())
        raise InvalidRequest(f"{field} is not taken here: an adapter is named by model", param=field)
    try:
        model = _TEXT.decode(members["model"]) if "model" in members else ""
    except msgspec.DecodeError:
        model = ""
    if not model:
        raise InvalidRequest("model must be the name of a model; GET /v1/models lists them", param="model")
    return model
