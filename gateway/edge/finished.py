"""What is told of a request of the hot path once it is over, and who is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """One request of the hot path; times are monotonic seconds, None where it never came so far."""

    request_id: str
    path: str
    key_id: str
    """Id of the caller's API key; empty without one."""
    pool: str
    served_name: str
    """Empty where the request's name was never resolved."""
    replica: str
    """Who answered, or failed last; empty where none was asked."""
    status: int
    reason: str
    """Empty for an answer that went out whole, else `client_left`, an error code, or `broken` for one cut off."""
    streamed: bool
    retries: int
    began: float
    queued_s: float
    sent_at: float | None
    first_byte_at: float | None
    ended: float
    prompt_tokens: int | None
    completion_tokens: int | None
    overhead_s: float
    """The gateway's own share of the delay: arrival to sent without queueing, and the handling of the answer's head."""
    traceparent: str
    """What went to the engine; empty where tracing is off."""


class FinishedListener(Protocol):
    """Hears of every request of the hot path; called on the event loop, so it must be quick. Raises nothing."""

    def finished(self, facts: Finished) -> None:
        """The request that *facts* describe is over."""
        ...
