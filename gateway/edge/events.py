"""Server-sent events on their way: passed on whole, without their usage if the client did not ask for it."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

_LONGEST_EVENT: Final = 1 << 20
"""An event that is longer is passed on in the pieces in which it came."""
_ANY: Final = msgspec.json.Decoder()
_USAGE: Final = b'"usage"'
_NO_USAGE: Final = b'"usage":null'
_FINISH: Final = re.compile(rb'"finish_reason"\s*:\s*"([a-z_]{1,32})"')
_WORD: Final = re.compile(r"[A-Za-z_][\w.\[\]-]{0,63}")
_NO_REASON: Final = "engine_error"
_KEPT: Final = 4
"""How many of the latest pieces are kept for the reason: usage and end follow its event, each maybe by itself."""
_BLANK_LINES: Final = (b"\n\n", b"\r\n\r\n")


def usage_of(answer: Any) -> Mapping[str, Any]:
    """Return the `usage` of an event; empty where there is none."""
    usage = answer.get("usage") if isinstance(answer, dict) else None
    return usage if isinstance(usage, dict) else {}


def finish_reason_in(end: bytes) -> str:
    """Return the last reason to finish in the *end* of an answer; inside its text quotes would be escaped."""
    reasons = _FINISH.findall(end)
    return reasons[-1].decode() if reasons else ""


def engine_error_in(body: bytes) -> str:
    """Return code and field of the error in an engine's answer: `code (field)`. Its message may quote a prompt.

    vLLM and SGLang send OpenAI's error, or an older form of it with a number for the code and no envelope.
    """
    try:
        sent = _ANY.decode(body)
    except (ValueError, RecursionError):
        sent = None
    error = sent.get("error", sent) if isinstance(sent, dict) else None
    if not isinstance(error, dict):
        return _NO_REASON
    word, field = (next(_words_of(error, *names), "") for names in (("code", "type"), ("param",)))
    return f"{word or _NO_REASON} ({field})" if field else word or _NO_REASON


def _words_of(error: Mapping[str, Any], *names: str) -> Iterator[str]:
    """Yield the members that look like a name: no text of a prompt does."""
    values = (error.get(name) for name in names)
    return (value for value in values if isinstance(value, str) and _WORD.fullmatch(value))


class EventFilter:
    """Passes whole events on, so that whatever follows a cut begins on a line of its own.

    Only what holds the word `"usage"` is parsed.
    """

    def __init__(self, *, hide_usage: bool) -> None:
        """*hide_usage*: the client did not ask for the event that holds nothing but usage."""
        self._hide_usage = hide_usage
        self._rest = b""
        self._latest: deque[bytes] = deque(maxlen=_KEPT)
        self.usage: dict[str, Any] = {}
        self.count = 0
        """Events that were passed on."""

    @property
    def latest(self) -> bytes:
        """The latest pieces that were passed on, or hidden."""
        return b"".join(self._latest)

    @property
    def finish_reason(self) -> str:
        """Why the answer ended, in the engine's word; empty where the engine gives none."""
        return finish_reason_in(self.latest)

    def feed(self, data: bytes) -> bytes:
        """Return what can be passed on now that *data* has come: whole events, maybe none."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        if not data.endswith(_BLANK_LINES):
            data = self._cut(data)
        if data:  # a read without a whole event, such as the end of the body, must not displace the reason
            self._latest.append(data)
            self.count += data.count(b"\n\n") or data.count(b"\r\n\r\n")
        # Where usage was asked for, every event but the last has `"usage":null`; those need no parsing.
        if _USAGE in data and data.count(_USAGE) > data.count(_NO_USAGE):
            return self._look(data)
        return data

    def pass_whole(self, chunk: bytes) -> bool:
        """Count the events of a whole chunk, which ends with a blank line; False where it has to go through `feed`."""
        if self._rest or _USAGE in chunk:
            return False
        self._latest.append(chunk)
        self.count += chunk.count(b"\n\n")
        return True

    def end(self) -> bytes:
        """Return what remains when the stream has ended by itself; an unfinished event is passed on as it is."""
        rest, self._rest = self._rest, b""
        return rest

    def _cut(self, data: bytes) -> bytes:
        ends = [at + len(blank) for blank in _BLANK_LINES if (at := data.rfind(blank)) >= 0]
        end = max(ends, default=0)
        if len(data) - end > _LONGEST_EVENT:
            return data
        self._rest = data[end:]
        return data[:end]

    def _look(self, data: bytes) -> bytes:
        separator = b"\r\n\r\n" if data.endswith(b"\r\n\r\n") else b"\n\n"
        events = data.split(separator)
        kept = [event for event in events if not (_USAGE in event and self._only_usage(event))]
        return data if len(kept) == len(events) else separator.join(kept)

    def _only_usage(self, event: bytes) -> bool:
        """Note the event's usage, and return whether the event is there for its usage alone and to be left out."""
        text = b"\n".join([line[5:] for line in event.splitlines() if line.startswith(b"data:")])
        try:
            event_body = _ANY.decode(text)
        except (ValueError, RecursionError):
            return False
        usage = usage_of(event_body)
        self.usage.update(usage)
        # Only completions end with an event whose `choices` are empty; other paths have no such field and lose nothing.
        return self._hide_usage and bool(usage) and not event_body.get("choices", True)
