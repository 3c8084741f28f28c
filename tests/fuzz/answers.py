"""Reading answers off a connection, and judging them: framing, status, envelope and words."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from gateway.errors import HTTP_ERRORS

OURS: Final = frozenset(
    (status, code) for status, code in HTTP_ERRORS.values() if status >= 500 and code != "artifact_corrupt"
)
"""Answers above 500 that are declared; a corrupt artifact would be ours, as no request can damage one."""
LONGEST_ERROR: Final = 2205
_WORDS: Final = re.compile(
    rb"Traceback|File \\\"|NoneType|<class |object at 0x|[A-Z][a-z]+(Error|Exception)\b|int_max_str|codec|"
    rb"surrogates not|"
    rb"\bdict(ionary)?\b|\btuple\b|\bfrozenset\b|\bbool\b|\bint\b|\bstr\b|\bNone\b|\bTrue\b|\bFalse\b|pydantic|sqlite|"
    rb"sqlalchemy|constraint failed|[Ee]rrno|\bcallback\b|instance of|__\w+__|recursion|RLock"
)
"""Words of Python and of what we build on; no request of ours has one of them."""
_LENGTH: Final = re.compile(rb"(?im)^content-length: *(\d+)\r$")
_CHUNKED: Final = re.compile(rb"(?im)^transfer-encoding: *chunked\r$")
_TYPE: Final = re.compile(rb"(?im)^content-type: *([^;\r]*)")
_ANTHROPICS: Final = re.compile(rb"(?im)^request-id:")
_CLOSES: Final = re.compile(rb"(?im)^connection: *close\r$")


class Fault(Exception):
    """An answer is not what the gateway promises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer."""

    status: int
    head: bytes
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether no other request may follow."""
        return _CLOSES.search(self.head) is not None or b"HTTP/1.0" in self.head[:8]


async def read_answer(reader: asyncio.StreamReader, *, is_head: bool) -> Answer | None:
    """Return the next final answer, None at the end of the connection; `Fault` for a broken one."""
    while True:
        head = await _head(reader)
        if head is None:
            return None
        status = int(head[9:12])
        if status >= 200:
            break
    if is_head or status in (204, 304):
        body = b""
    elif _CHUNKED.search(head):
        body = await _chunks(reader)
    elif length := _LENGTH.search(head):
        body = await _exactly(reader, int(length[1]))
    else:
        body = await reader.read(-1)
    return Answer(status=status, head=head, body=body)


async def _head(reader: asyncio.StreamReader) -> bytes | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as exc:
        if exc.partial:
            raise Fault(f"the connection ended in the middle of a head: {exc.partial[:200]!r}") from exc
        return None
    except ConnectionError:
        return None
    if not re.match(rb"HTTP/1\.[01] [1-5]\d\d ", head):
        raise Fault(f"not the head of an answer: {head[:200]!r}")
    return head


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await _exactly_until(reader, b"\r\n")).strip(), 16):
        body += (await _exactly(reader, size + 2))[:-2]
    await _exactly(reader, 2)
    return body


async def _exactly(reader: asyncio.StreamReader, size: int) -> bytes:
    try:
        return await reader.readexactly(size)
    except (asyncio.IncompleteReadError, ConnectionError) as exc:
        raise Fault("the connection ended in the middle of a body") from exc


async def _exactly_until(reader: asyncio.StreamReader, end: bytes) -> bytes:
    try:
        return await reader.readuntil(end)
    except (asyncio.IncompleteReadError, ConnectionError) as exc:
        raise Fault("the connection ended in the middle of a chunk") from exc


def judge(answer: Answer, *, is_head: bool) -> None:
    """Raise `Fault` unless the answer is one that the gateway promises."""
    kind = _TYPE.search(answer.head)
    is_json = kind is not None and kind[1].strip() == b"application/json"
    if is_head:
        if answer.status >= 500:
            raise Fault(f"status {answer.status}")
        return
    if answer.status < 400:
        if is_json:
            _decoded(answer.body)
        return
    if not is_json:
        raise Fault(f"{answer.status} is no JSON: {answer.head[:300]!r} {answer.body[:300]!r}")
    _judge_error(answer)


def _judge_error(answer: Answer) -> None:
    error = _anthropic_error(answer) if _ANTHROPICS.search(answer.head) else _openai_error(answer)
    if error is None:
        raise Fault(f"{answer.status} is not in the envelope: {answer.body[:300]!r}")
    if not (isinstance(error["message"], str) and error["message"] and isinstance(error["type"], str)):
        raise Fault(f"{answer.status} has no message: {answer.body[:300]!r}")
    if len(error["message"]) + len(error["param"] or "") > LONGEST_ERROR:
        raise Fault(f"{answer.status} is long, {len(answer.body)} bytes: {answer.body[:300]!r}")
    if found := _WORDS.search(answer.body):
        raise Fault(f"{answer.status} has {found[0]!r}: {answer.body[:600]!r}")
    if answer.status >= 500 and (answer.status, error["code"]) not in OURS:
        raise Fault(f"{answer.status} {error['code']}: {error['message'][:300]}")


def _openai_error(answer: Answer) -> dict[str, Any] | None:
    decoded = _decoded(answer.body)
    error = decoded.get("error") if isinstance(decoded, dict) and len(decoded) == 1 else None
    return error if isinstance(error, dict) and error.keys() == {"message", "type", "param", "code"} else None


def _anthropic_error(answer: Answer) -> dict[str, Any] | None:
    """Return the error as OpenAI's envelope has it."""
    decoded = _decoded(answer.body)
    if not isinstance(decoded, dict) or decoded.keys() != {"type", "error", "request_id"} or decoded["type"] != "error":
        return None
    error = decoded["error"]
    if not isinstance(error, dict) or error.keys() - {"details"} != {"type", "message"}:
        return None
    details = error.get("details", {})
    return {**error, "code": details.get("error_code"), "param": details.get("field")}


def _decoded(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise Fault(f"the body is no JSON: {body[:300]!r}") from exc
