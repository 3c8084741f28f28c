"""The facts of a finished request of the hot path, and the interface of their listeners."""

from __future__ import annotations

import time
from typing import Final, Protocol

from msgspec import Struct

CLIENT_LEFT: Final = "client_left"
BROKEN: Final = "broken"


class Finished(Struct, frozen=True, kw_only=True, gc=False):
    """A finished request of the hot path; times are monotonic seconds, None for a stage that was not reached.

    A struct, because a frozen dataclass takes ten times as long for every request.
    """

    request_id: str
    path: str
    key_id: str
    """Id of the caller's API key; empty without one."""
    pool: str
    served_name: str
    """Empty if the model's name was not resolved."""
    replica: str
    """The replica that answered, or failed last; empty if none was asked."""
    status: int
    reason: str
    """Empty for an answer sent completely, else `client_left`, an error code, or `broken` for one cut off."""
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
    """Delay by the gateway itself: from arrival to sending without queueing, and the handling of the answer's head."""
    traceparent: str
    """The header sent to the engine; empty if tracing is off."""
    asked_name: str = ""
    """The name of the model in the request."""
    cold_start_s: float = 0.0
    """How much of `queued_s` the request waited for a pool that had no replica."""
    engine_error: str = ""
    """Why the engine refused the request, as its error's code and field; empty unless the status is its error's."""
    finish_reason: str = ""
    """The engine's finish reason; read only for traced requests."""


def unix_of(monotonic_s: float) -> float:
    """Return a time of `Finished` as seconds since 1970, by the clocks as they are now."""
    return time.time() - (time.monotonic() - monotonic_s)


class FinishedListener(Protocol):
    """Receives every finished request on the event loop, so it must be quick. Raises nothing."""

    def finished(self, facts: Finished) -> None:
        """Record a request that is over."""
        ...
