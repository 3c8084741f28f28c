"""Which answers are results of a line, and which are asked for again, and when. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.batches.records import LineAnswer

MOST_FAILURES: Final = 5
"""Times that a request may fail for no stated reason (5xx, an answer that breaks off) until that is its result."""
_LEFT_SHARE: Final = 0.2
"""Share of a key's limits a minute that batches leave to its other requests."""
_DURATION: Final = re.compile(r"(?:(?P<m>\d+)m(?!s))?(?:(?P<ms>[\d.]+)ms|(?P<s>[\d.]+)s)?")
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

    A refusal that names the time to retry is waited out for as long as the batch has time.
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


def leaves_s(headers: Mapping[str, str]) -> float:
    """Return for how long no line is to be sent, by the `x-ratelimit-*` headers of an answer.

    A fifth of each limit a minute is left to the other requests of the key.
    """
    longest = 0.0
    for name in ("requests", "tokens"):
        limit, rest = headers.get(f"x-ratelimit-limit-{name}", ""), headers.get(f"x-ratelimit-remaining-{name}", "")
        if limit.isdigit() and rest.isdigit() and int(rest) < _LEFT_SHARE * int(limit):
            longest = max(longest, _seconds(headers.get(f"x-ratelimit-reset-{name}", "")))
    return longest


def _seconds(duration: str) -> float:
    """Return the seconds of a duration as OpenAI writes it, `12ms`, `1.5s` or `1m0s`."""
    found = _DURATION.fullmatch(duration)
    if found is None:
        return 0.0
    parts = {name: float(value or 0) for name, value in found.groupdict().items()}
    return 60 * parts["m"] + parts["s"] + parts["ms"] / 1000
