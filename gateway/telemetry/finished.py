"""What is told of a request of the hot path once it is over, and who is told."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

CLIENT_LEFT: Final = "client_left"
BROKEN: Final = "broken"


class Finished(NamedTuple):
    """One request of the hot path; times are monotonic seconds, None where it never came so far.

    Made by names only. A tuple, because one is made for every request: a frozen dataclass takes five times as long.
    """

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
    asked_name: str = ""
    """The model as the client named it."""
    finish_reason: str = ""
    """Why the answer ended, in the engine's word; read only where the request is traced."""


class FinishedListener(Protocol):
    """Hears of every request of the hot path; called on the event loop, so it must be quick. Raises nothing."""

    def finished(self, facts: Finished) -> None:
        """The request that *facts* describe is over."""
        ...
