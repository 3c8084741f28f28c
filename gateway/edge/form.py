"""Requests whose body is a form (`multipart/form-data`): reading the model's name, and writing another one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from engines.catalog import ADDRESS_FIELDS
from gateway.edge.token_estimate import TokenEstimate, estimate_of_form
from gateway.errors import InvalidRequest

_TRUE: Final = frozenset({b"true", b"True", b"1", b"on"})
LONGEST_NAME: Final = 1024
"""Longest name of a model, in bytes of a form and in characters of JSON; a registry has none that is longer."""
_PREFIX_BYTES: Final = 512


class Form:
    """A `RequestBody` that is a form; *model_at* is where in it the model stands."""

    wants_usage = False
    prescribes = False

    def __init__(self, body: bytes, content_type: str, model_at: slice, *, is_streamed: bool) -> None:
        self._body = body
        self._model_at = model_at
        self.size = len(body)
        self.content_type = content_type.encode("latin-1")
        self.model = body[model_at].decode(errors="replace")
        self.is_streamed = is_streamed

    def estimate(self) -> TokenEstimate:
        """Return the tokens that the request may use."""
        return estimate_of_form()

    def prefix(self) -> bytes:
        """Return a piece of the middle, so that files spread over the replicas."""
        middle = self.size // 2
        return self._body[middle : middle + _PREFIX_BYTES]

    def whole(self, *, ask_for_usage: bool = False) -> Mapping[str, Any]:
        """Return what a conversation's key is formed from; the file is represented by its digest."""
        return {"model": self.model, "prompt": sha256(self._body).hexdigest()}

    def for_engine(self, address: Mapping[str, str], *, ask_for_usage: bool) -> bytes:
        """Return the form with another model; every other byte is as it came."""
        return self._body[: self._model_at.start] + address["model"].encode() + self._body[self._model_at.stop :]


class _Reader:
    """Notes where in the body the value of each field stands; files and long values are passed over."""

    def __init__(self, body: bytes, boundary: bytes) -> None:
        self.values: dict[str, list[slice]] = {}
        self._body = body
        self.is_whole = False
        self._header = b""
        self._disposition = b""
        self._value = b""
        self._at: list[int] = []
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._add_header,
                "on_header_value": self._add_value,
                "on_header_end": self._end_header,
                "on_part_data": self._note_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def read(self) -> None:
        """Note the fields of the body; `FormParserError`."""
        # all at once, so that the places that the parser reports are places in the body
        self._parser.write(self._body)
        self._parser.finalize()

    def _begin(self) -> None:
        self._disposition, self._at = b"", []

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _note_data(self, _: bytes, start: int, end: int) -> None:
        self._at = [self._at[0] if self._at else start, end]

    def _end_part(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" in options and b"filename" not in options:
            at = slice(*self._at) if self._at else slice(0, 0)
            self.values.setdefault(options[b"name"].decode(errors="replace"), []).append(at)

    def _end(self) -> None:
        self.is_whole = True


def parse_form(body: bytes, content_type: str) -> Form:
    """Return the form; `InvalidRequest` if *body* is not a form, is not whole, or does not name one model."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise InvalidRequest("the body must be multipart/form-data with its boundary in content-type")
    try:
        reader = _Reader(body, boundary)
        reader.read()
    except FormParserError as exc:
        raise InvalidRequest(f"the body is not multipart/form-data: {exc}") from exc
    if not reader.is_whole:
        raise InvalidRequest("the form is not whole: its last boundary is missing")
    # A client that named an adapter by an engine's own field would pass by routes and the models of its key.
    for name in ADDRESS_FIELDS - {"model"} & reader.values.keys():
        raise InvalidRequest(f"{name} is not taken here: an adapter is named by model", param=name)
    model_at = _only_one(reader.values.get("model", []))
    streams = [body[at] for at in reader.values.get("stream", [])]
    return Form(body, content_type, model_at, is_streamed=bool(streams) and streams[-1] in _TRUE)


def _only_one(places: list[slice]) -> slice:
    # The gateway and the engine could each read another of two fields.
    if len(places) != 1 or not 0 < places[0].stop - places[0].start <= LONGEST_NAME:
        raise InvalidRequest(
            "model must be one field of the form with the name of a model; GET /v1/models lists them", param="model"
        )
    return places[0]
