"""The tokens that a request may use, estimated before an engine is asked: what limits of a key admit. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw

_BYTES_PER_TOKEN: Final = 4
"""Bytes of a prompt for each of its tokens, roughly."""
_ANSWER_TOKENS: Final = 256
"""Tokens that an answer is estimated at where the request sets no bound."""
_MEDIUM_TOKENS: Final = 1000
"""Tokens of a picture or a sound, roughly; nothing of them follows from how many bytes their files have."""
_MOST: Final = 10**12
"""More than any limit, and little enough for every ledger to count with."""
_ANSWER_LIMITS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_PAYLOAD: Final = b";base64,"
_ANY: Final = msgspec.json.Decoder()
_LIST: Final = msgspec.json.Decoder(list[Raw])
_LONGEST_NUMBER: Final = 64
Members = Mapping[str, Raw]


class TokenEstimate(NamedTuple):
    """Tokens of a request before anything is known of its answer."""

    prompt: int
    answers: int
    """Tokens of the longest answers that the request allows, all together."""

    @property
    def total(self) -> int:
        """Tokens that the request is admitted with."""
        return self.prompt + self.answers


class Seen(NamedTuple):
    """The facts that a gateway saw of an answer that is over; the tokens as the engine reported them."""

    status: int
    prompt: int | None
    answered: int | None
    total: int | None
    events: int | None
    """Events of a stream that were passed on; None where the answer was none."""
    is_cut: bool
    """The answer did not come to its end: the client left, or the replica failed."""


def tokens_used(estimate: TokenEstimate, seen: Seen) -> int | None:
    """Return the tokens that a request used, which an engine was asked; None where nothing is known of them."""
    if seen.total:
        return seen.total
    reported = (seen.prompt or 0) + (seen.answered or 0)
    if reported and not seen.is_cut:  # some paths report no total
        return reported
    # An engine sends an event for each token, so those of a stream that was cut are its tokens, or nearly.
    if seen.events is not None:
        return (seen.prompt or estimate.prompt) + max(seen.answered or 0, seen.events)
    # An engine may have generated up to the deadline; whatever else failed gave no answer.
    is_refused = seen.status >= HTTPStatus.BAD_REQUEST and seen.status != HTTPStatus.GATEWAY_TIMEOUT
    return 0 if is_refused else None


def estimate_of_form() -> TokenEstimate:
    """Return the estimate of a form, whose file is a sound."""
    return TokenEstimate(_MEDIUM_TOKENS, _ANSWER_TOKENS)


def estimate_of(members: Members, size: int, prompt_fields: Iterable[str], *, is_answered: bool) -> TokenEstimate:
    """Return the estimate of a JSON body of *size* bytes; *is_answered*: tokens are generated."""
    media = [length for name in prompt_fields if name in members for length in _payloads(bytes(members[name]))]
    prompt = (size - sum(media)) // _BYTES_PER_TOKEN + _MEDIUM_TOKENS * len(media)
    if not is_answered:
        return TokenEstimate(prompt, 0)
    longest = next((limit for name in _ANSWER_LIMITS if (limit := count_in(members, name)) is not None), _ANSWER_TOKENS)
    # An engine generates `best_of` answers to return the best `n` of them.
    each = max(count_in(members, "n") or 1, count_in(members, "best_of") or 1)
    return TokenEstimate(prompt, min(_MOST, longest * each * _prompts_in(members)))


def count_in(members: Members, name: str) -> int | None:
    """Return a whole number from 0 on, as any engine reads it: `5`, `5.0`, `5e0`, `"5"`; None where there is none."""
    raw = members.get(name)
    if raw is None or memoryview(raw).nbytes > _LONGEST_NUMBER:
        return None
    try:
        return _whole(_ANY.decode(raw))
    except msgspec.DecodeError:
        return None


def _whole(value: Any) -> int | None:
    if isinstance(value, str):  # engines whose parser is lax read numbers out of strings
        value = int(value) if value.strip().isdecimal() else None
    if isinstance(value, float):
        value = int(value) if value.is_integer() else None
    return max(0, min(value, _MOST)) if isinstance(value, int) else None


def _prompts_in(members: Members) -> int:
    """Return how many prompts a completion has: a list of token ids is one."""
    raw = members.get("prompt")
    if raw is None or bytes(memoryview(raw)[:1]) != b"[":
        return 1
    try:
        prompts = _LIST.decode(raw)
    except msgspec.DecodeError:
        return 1
    is_tokens = bool(prompts) and bytes(memoryview(prompts[0])[:1]) not in (b'"', b"[")
    return 1 if is_tokens else max(1, len(prompts))


def _payloads(prompt: bytes) -> Iterable[int]:
    """Yield the lengths of files inside data URLs."""
    at = prompt.find(_PAYLOAD)
    while at >= 0:
        end = prompt.find(b'"', at)
        end = len(prompt) if end < 0 else end
        yield end - at
        at = prompt.find(_PAYLOAD, end)
