"""The lines of output and error files, and the tokens that an answer used. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final

import msgspec
from msgspec import Raw

from gateway.batches.lines import BatchLine
from registry.batches.batch import BatchResult, BatchUsage
from registry.batches.batch_state import BatchState

UNASKED: Final[Mapping[BatchState, tuple[str, str]]] = {
    BatchState.EXPIRED: (
        "batch_expired",
        "This request could not be executed before the completion window expired.",
    ),
    BatchState.CANCELLED: ("batch_cancelled", "This request was not executed, as the batch was cancelled."),
    BatchState.FAILED: ("batch_failed", "This request was not executed, as the batch failed; its `errors` say why."),
}
"""State that a batch ends in -> code and message for its requests without an answer."""
_BROKEN: Final = {"code": "answer_broken", "message": "The answer broke off, in every attempt."}
_ENCODER: Final = msgspec.json.Encoder()
_ANSWER: Final = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class LineAnswer:
    """The answer of the gateway to one request."""

    status: int
    """0 if the answer broke off."""
    request_id: str
    retry_after_s: float | None
    body: bytes
    leaves_s: float = 0.0
    """How long the rest of a limit is to be left to the key's other requests."""


def result_of(line: BatchLine, answer: LineAnswer) -> BatchResult:
    """Return the result of a line; any status from 400 on is an error, and an answer that broke off too."""
    is_error = not 200 <= answer.status < 400
    if answer.status == 0:
        record = _record(line.custom_id, None, _BROKEN)
    else:
        whole = {"status_code": answer.status, "request_id": answer.request_id, "body": _body(answer.body)}
        record = _record(line.custom_id, whole, None)
    usage = BatchUsage() if is_error else usage_in(answer.body)
    return BatchResult(line=line.number, is_error=is_error, record=record, usage=usage)


def unasked_records(lines: Iterable[BatchLine], answered: set[int], outcome: BatchState) -> Iterator[str]:
    """Yield a line of the error file for each request without a result."""
    code, message = UNASKED[outcome]
    for line in lines:
        if line.number not in answered:
            yield _record(line.custom_id, None, {"code": code, "message": message})


def usage_in(body: bytes) -> BatchUsage:
    """Return the tokens that an answer names, in the words of any of the endpoints; 0 for each that it does not."""
    try:
        usage = _ANSWER.decode(body).get("usage")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return BatchUsage()
    if not isinstance(usage, dict):
        return BatchUsage()
    read = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    written = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
    return BatchUsage(
        input_tokens=_first(usage, "prompt_tokens", "input_tokens"),
        cached_tokens=_first(read, "cached_tokens") or _first(usage, "cache_read_input_tokens"),
        output_tokens=_first(usage, "completion_tokens", "output_tokens"),
        reasoning_tokens=_first(written, "reasoning_tokens"),
    )


def _first(counts: Any, *names: str) -> int:
    if not isinstance(counts, dict):
        return 0
    return next((value for name in names if isinstance(value := counts.get(name), int)), 0)


def _record(custom_id: str, response: Mapping[str, Any] | None, error: Mapping[str, str] | None) -> str:
    record = {"id": f"batch_req_{token_hex(12)}", "custom_id": custom_id, "response": response, "error": error}
    return _ENCODER.encode(record).decode()


def _body(body: bytes) -> Raw | str:
    """Return the body on one line, its values byte for byte; as a string if it is no JSON."""
    try:
        return Raw(msgspec.json.format(body.decode(), indent=-1).encode())
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return body.decode("utf-8", "replace")
