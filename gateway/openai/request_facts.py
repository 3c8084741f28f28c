"""What becomes known of an inference request while it is served; told to the listeners when it is over."""

from __future__ import annotations

import contextlib
import re
import time
from dataclasses import dataclass
from typing import Final

import orjson

from gateway.edge.finished import Finished
from gateway.edge.paths import PathKind

_USAGE: Final = re.compile(rb'"usage"\s*:\s*(\{)')
_END_KEPT: Final = 4096
"""Where in an answer its usage stands: near the end."""


@dataclass(slots=True, kw_only=True)
class RequestFacts:
    """One request under way; times are monotonic seconds."""

    kind: PathKind
    request_id: str
    began: float
    traceparent: str = ""
    key_id: str = ""
    asked_name: str = ""
    served_name: str = ""
    pool: str = ""
    replica: str = ""
    reason: str = ""
    streamed: bool = False
    attempts: int = 0
    waited_s: float = 0.0
    sent_at: float | None = None
    first_byte_at: float | None = None
    end: bytes = b""

    def note_sent(self, pool: str, replica: str) -> None:
        """The request is about to go to this replica."""
        self.attempts += 1
        self.pool, self.replica = pool, replica
        self.sent_at = time.monotonic()

    def note_chunk(self, chunk: bytes) -> None:
        """Bytes of the answer came."""
        self.end = (self.end + chunk)[-_END_KEPT:]

    def finished(self, status: int, ended: float) -> Finished:
        """The facts, now that it is over."""
        usage = _usage_in(self.end)
        waited = self.waited_s if self.sent_at is None else min(self.waited_s, self.sent_at - self.began)
        return Finished(
            request_id=self.request_id,
            path=self.kind.path,
            key_id=self.key_id,
            pool=self.pool,
            served_name=self.served_name,
            replica=self.replica,
            status=status,
            reason=self.reason,
            streamed=self.streamed,
            retries=max(self.attempts - 1, 0),
            began=self.began,
            queued_s=waited,
            sent_at=self.sent_at,
            first_byte_at=self.first_byte_at,
            ended=ended,
            prompt_tokens=_count(usage, self.kind.input_tokens),
            completion_tokens=_count(usage, self.kind.output_tokens),
            overhead_s=(ended if self.sent_at is None else self.sent_at) - self.began - waited,
            traceparent=self.traceparent,
            asked_name=self.asked_name,
        )


def _usage_in(end: bytes) -> dict[str, object]:
    """The last `usage` object in the *end* of an answer, empty where there is none."""
    for found in reversed(list(_USAGE.finditer(end))):
        start = found.start(1)
        depth = 0
        for at in range(start, len(end)):
            depth += {0x7B: 1, 0x7D: -1}.get(end[at], 0)
            if depth == 0:
                with contextlib.suppress(orjson.JSONDecodeError):
                    usage: dict[str, object] = orjson.loads(end[start : at + 1])
                    return usage
                break
    return {}


def _count(usage: dict[str, object], name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) else None
