"""The lines of a batch: how its input file is read and checked. Pure but for the file that is handed in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final

import msgspec
from msgspec import Raw

from gateway.routing.paths import HOT_PATHS, PathKind
from registry.batches.batch import BatchFault
from registry.wording.suggestions import meant_or_known

MOST_LINES: Final = 50_000
"""Lines of a batch, as at OpenAI."""
MOST_FILE_BYTES: Final = 200 * 1024 * 1024
"""Largest input file, as at OpenAI."""
MOST_FAULTS: Final = 100
"""Faults that are listed; the file is not read on behind these."""
_LONGEST_ID: Final = 512
_AROUND_BODY_BYTES: Final = 8192
"""Room in a line for all but its body."""
_FIELDS: Final = ("custom_id", "method", "url", "body")
_BOM: Final = b"\xef\xbb\xbf"
_SHOWN: Final = 64
_MEMBERS: Final = msgspec.json.Decoder(dict[str, Raw])
_TEXT: Final = msgspec.json.Decoder(str)
_KINDS: Final = {ord("{"): "an object", ord("["): "a list", ord('"'): "a string", ord("n"): "null"}


class FileRefused(Exception):
    """The input file is not a batch of this endpoint."""

    def __init__(self, faults: list[BatchFault], lines: int = 0) -> None:
        super().__init__("; ".join(fault.message for fault in faults))
        self.faults = faults
        self.lines = lines


class _Refused(Exception):
    """A line is not a request; the arguments are code, message and the field."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLine:
    """A request in the input file."""

    number: int
    custom_id: str
    model: str
    body: bytes
    """JSON, byte for byte as it stands in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFile:
    """An input file without a fault."""

    lines: int
    model: str


class BatchFile:
    """The lines of one input file for one endpoint."""

    def __init__(self, endpoint: str, most_body_bytes: int) -> None:
        """*most_body_bytes* is the size of the largest body that the gateway takes."""
        self._kind = HOT_PATHS[endpoint.encode()]
        self._most_body_bytes = most_body_bytes
        self._longest = most_body_bytes + _AROUND_BODY_BYTES

    def check(self, file: IO[bytes]) -> CheckedFile:
        """Return what a right file has; `FileRefused` names line and field of the first faults of a wrong one."""
        faults: list[BatchFault] = []
        first_with: dict[str, int] = {}
        model: tuple[str, int] | None = None
        count = 0
        for number, raw in self._filled(file):
            count += 1
            try:
                if count > MOST_LINES:
                    raise _Refused("too_many_requests", f"a batch has at most {MOST_LINES:,} requests")
                line = _parse(number, raw, self._kind, self._most_body_bytes)
                _check_new(line, first_with)
                model = model or (line.model, number)
                _check_same_model(line, *model)
            except _Refused as exc:
                faults.append(BatchFault(code=exc.code, message=f"line {number}: {exc}", line=number, param=exc.param))
                if len(faults) == MOST_FAULTS or count > MOST_LINES:
                    break
        if model is None and not faults:
            faults.append(BatchFault(code="empty_file", message="the file has no line; each line is one request"))
        if faults or model is None:
            raise FileRefused(faults, count)
        return CheckedFile(lines=count, model=model[0])

    def lines(self, file: IO[bytes]) -> Iterator[BatchLine]:
        """Yield the requests of a file that `check` found to be right."""
        for number, raw in self._filled(file):
            yield _parse(number, raw, self._kind, self._most_body_bytes)

    def _filled(self, file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
        """Yield number and bytes of each line that is not blank; of an overlong one the beginning."""
        number = 0
        while line := file.readline(self._longest + 1):
            number += 1
            rest = line
            while not rest.endswith(b"\n") and (rest := file.readline(self._longest + 1)):
                pass
            text = (line.removeprefix(_BOM) if number == 1 else line).strip()
            if text:
                yield number, text


def _parse(number: int, raw: bytes, kind: PathKind, most_body_bytes: int) -> BatchLine:
    """Return the request of a line. Raises `_Refused`."""
    if len(raw) > most_body_bytes + _AROUND_BODY_BYTES:
        raise _Refused("request_too_large", f"its body may have {most_body_bytes:,} bytes", "body")
    fields = _members(raw, None)
    if unknown := next((name for name in fields if name not in _FIELDS), None):
        shown = unknown[:_SHOWN]
        raise _Refused("unknown_parameter", f"unknown field {shown!r}{meant_or_known(shown, _FIELDS)}", shown)
    if missing := next((name for name in _FIELDS if name not in fields), None):
        raise _Refused("missing_required_parameter", f"{missing} is missing", missing)
    custom_id = _text(fields["custom_id"], "custom_id")
    if not 1 <= len(custom_id) <= _LONGEST_ID or "\0" in custom_id:
        raise _Refused("invalid_custom_id", f"custom_id must have 1 to {_LONGEST_ID} characters, no NUL", "custom_id")
    if (method := _text(fields["method"], "method")) != "POST":
        raise _Refused("invalid_method", f'method must be "POST"; got {method[:_SHOWN]!r}', "method")
    if (url := _text(fields["url"], "url")) != kind.path:
        message = f"url must be the endpoint of the batch, {kind.path}; got {url[:_SHOWN]!r}"
        raise _Refused("invalid_url", message, "url")
    body = bytes(fields["body"])
    if len(body) > most_body_bytes:
        raise _Refused("request_too_large", f"its body has {len(body):,} bytes, of {most_body_bytes:,}", "body")
    return BatchLine(number=number, custom_id=custom_id, model=_model_of(body), body=body)


def _model_of(body: bytes) -> str:
    """Return the model that the body names, and refuse what no batch can do."""
    members = _members(body, "body")
    if "model" not in members:
        raise _Refused("missing_required_parameter", "body.model is missing", "body.model")
    if bytes(members.get("stream", Raw(b"false"))) not in (b"false", b"null"):
        raise _Refused(
            "stream_not_supported", "body.stream must be false: answers of a batch come whole", "body.stream"
        )
    return _text(members["model"], "body.model")


def _members(raw: bytes, param: str | None) -> dict[str, Raw]:
    name = param or "the line"
    if param is not None and raw[:1] != b"{":
        raise _Refused("invalid_type", f"{name} must be an object, not {_kind_of(raw)}", param)
    try:
        return _MEMBERS.decode(raw)
    except msgspec.ValidationError as exc:
        raise _Refused("invalid_json_line", f"must be a JSON object, not {_kind_of(raw)}", param) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        why = "nested too deeply" if isinstance(exc, RecursionError) else str(exc).removeprefix("JSON is malformed: ")
        raise _Refused("invalid_json_line", f"{name} is not JSON: {why}", param) from exc


def _text(raw: Raw, param: str) -> str:
    try:
        return _TEXT.decode(raw)
    except msgspec.ValidationError as exc:
        raise _Refused("invalid_type", f"{param} must be a string, not {_kind_of(bytes(raw))}", param) from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise _Refused("invalid_json_line", f"{param} is not text", param) from exc


def _kind_of(raw: bytes) -> str:
    if raw[:1] in (b"t", b"f"):
        return "a boolean"
    return _KINDS.get(raw[0], "a number") if raw else "nothing"


def _check_new(line: BatchLine, first_with: dict[str, int]) -> None:
    if (first := first_with.setdefault(line.custom_id, line.number)) != line.number:
        message = f"custom_id {line.custom_id[:_SHOWN]!r} is that of line {first} already"
        raise _Refused("duplicate_custom_id", message, "custom_id")


def _check_same_model(line: BatchLine, model: str, first: int) -> None:
    if line.model != model:
        message = f"a batch is for one model: line {first} names {model[:_SHOWN]!r}, this one {line.model[:_SHOWN]!r}"
        raise _Refused("mismatched_model", message, "body.model")
