"""Made-up facts of a finished request."""

from __future__ import annotations

from typing import Any

from gateway.telemetry.finished import Finished


def facts(**said: Any) -> Finished:
    """A stream of eleven tokens that `support@7` answered, changed by what is *said*."""
    known: dict[str, Any] = {
        "request_id": "req-1",
        "path": "/v1/chat/completions",
        "key_id": "",
        "pool": "default",
        "served_name": "support@7",
        "replica": "r0",
        "status": 200,
        "reason": "",
        "streamed": True,
        "retries": 0,
        "began": 100.0,
        "queued_s": 0.0,
        "sent_at": 100.001,
        "first_byte_at": 100.2,
        "ended": 101.2,
        "prompt_tokens": 30,
        "completion_tokens": 11,
        "overhead_s": 0.0003,
        "traceparent": "",
        "asked_name": "support",
    }
    return Finished(**(known | said))
