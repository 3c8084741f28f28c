"""Which answers are results of a line, and which are asked for again, and when. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.batches.records import LineAnswer

MOST_FAILURES: Final = 5
"""Times that a request may fail for no stated reason (5xx, an answer that breaks off) until that is its result."""
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """A request that is to be sent again."""

    after_s: float
    holds_all: bool
    """The whole batch waits: a limit is used up, or nothing answers at the moment."""
    is_failure: bool
    """Counts among the `MOST_FAILURES`."""


def again(answer: LineAnswer, failures: int) -> Again | None:
    """Return how the request is sent again after this *answer* and so many *failures*; None if that is its result.

    A refusal that says when to come back is waited out for as long as the batch has time.
    """
    pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(failures, 10))
    # The key is no longer valid: the batch ends by that, and the request is not judged.
    if answer.status == 401:
        return Again(after_s=pause_s, holds_all=True, is_failure=False)
    if answer.status in (429, 503) and answer.retry_after_s is not None:
        return Again(after_s=max(answer.retry_after_s, 0.1), holds_all=True, is_failure=False)
    is_fault = answer.status in (0, 408, 429) or answer.status >= 500
    if not is_fault or failures + 1 >= MOST_FAILURES:
        return None
    return Again(after_s=pause_s, holds_all=False, is_failure=True)
