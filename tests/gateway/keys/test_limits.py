"""A key is limited in a minute and at a time, and refusals report when to retry."""

from __future__ import annotations

import pytest

from gateway.errors import RateLimited
from gateway.keys.caller import ANYBODY, Caller
from gateway.keys.limit_ledger import duration
from gateway.keys.limits import RateLimiter
from gateway.telemetry.metrics import GatewayMetrics
from registry.keys import KeyLimits, Scope
from registry.states import Priority
from tests.clock import Clock


def caller(
    key_id: str = "key_1", *, requests: int | None = None, tokens: int | None = None, places: int | None = None
) -> Caller:
    """A caller with these limits."""
    limits = KeyLimits(requests_per_minute=requests, tokens_per_minute=tokens, concurrent_requests=places)
    return Caller(
        key_id=key_id,
        name="chat",
        tenant="chat",
        scopes=frozenset(Scope),
        models=None,
        priority=Priority.NORMAL,
        limits=limits,
    )


@pytest.fixture
def limits(clock: Clock) -> RateLimiter:
    """Return the limits of one gateway."""
    return RateLimiter(GatewayMetrics(), clock=clock)


def refusal(limits: RateLimiter, who: Caller, tokens: int = 0) -> RateLimited:
    with pytest.raises(RateLimited) as refused:
        limits.admit(who, tokens)
    return refused.value


def test_requests_of_a_minute_are_counted_until_it_ends(limits: RateLimiter, clock: Clock) -> None:
    who = caller(requests=2)
    assert limits.headers(limits.admit(who, 0)) == (
        b"x-ratelimit-limit-requests: 2\r\nx-ratelimit-remaining-requests: 1\r\nx-ratelimit-reset-requests: 1m0s\r\n"
    )
    clock.advance(12.5)
    limits.admit(who, 0)
    told = refusal(limits, who)
    assert (told.retry_after_s, told.param) == (48, None)
    assert "2 requests a minute; try again in 47.5s" in str(told)
    assert told.headers == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "47.5s",
    }
    clock.advance(47.5)
    limits.admit(who, 0)


def test_tokens_are_reckoned_first_and_settled_then(limits: RateLimiter) -> None:
    who = caller(tokens=1000)
    first = limits.admit(who, 800)
    told = refusal(limits, who, 300)
    assert "1000 tokens a minute, 200 remain, this request may use 300; try again in 1m0s" in str(told)
    assert told.headers["x-ratelimit-remaining-tokens"] == "200"
    limits.correct(first, 100)
    assert b"x-ratelimit-remaining-tokens: 600\r\n" in limits.headers(limits.admit(who, 300))


def test_an_answer_that_took_more_than_was_reckoned_is_charged(limits: RateLimiter) -> None:
    who = caller(tokens=1000)
    limits.correct(limits.admit(who, 100), 990)
    assert ", 10 remain" in str(refusal(limits, who, 11))


def test_tokens_go_back_only_to_the_minute_that_they_came_from(limits: RateLimiter, clock: Clock) -> None:
    who = caller(tokens=1000)
    long, longer = limits.admit(who, 500), limits.admit(who, 100)
    clock.advance(60)
    limits.admit(who, 900)
    limits.correct(long, 10)
    assert ", 100 remain" in str(refusal(limits, who, 101))
    limits.correct(longer, 150)
    assert ", 50 remain" in str(refusal(limits, who, 51))


def test_what_never_fits_is_not_told_to_come_again(limits: RateLimiter) -> None:
    told = refusal(limits, caller(tokens=1000), 10**30)
    assert told.retry_after_s is None
    assert "make it shorter or lower max_tokens" in str(told)


def test_requests_at_a_time_are_free_again_when_one_ends(limits: RateLimiter, clock: Clock) -> None:
    who = caller(places=2)
    first, _ = limits.admit(who, 0), limits.admit(who, 0)
    clock.advance(600)
    told = refusal(limits, who)
    assert "2 requests at a time" in str(told)
    assert (told.retry_after_s, told.headers) == (1, {})
    limits.release(first)
    limits.admit(who, 0)


def test_a_refused_request_takes_nothing(limits: RateLimiter) -> None:
    who = caller(requests=3, tokens=100, places=1)
    first = limits.admit(who, 50)
    for _ in range(5):
        refusal(limits, who, 60)
        refusal(limits, who, 50)
    limits.release(first)
    lines = limits.headers(limits.admit(who, 50)).decode()
    assert "x-ratelimit-remaining-requests: 1\r\n" in lines
    assert "x-ratelimit-remaining-tokens: 0\r\n" in lines


def test_a_request_that_is_withdrawn_took_nothing(limits: RateLimiter, clock: Clock) -> None:
    who = caller(requests=3, tokens=100, places=1)
    withdrawn = limits.withdraw(limits.admit(who, 60))
    lines = limits.headers(withdrawn).decode()
    assert "x-ratelimit-remaining-requests: 3\r\n" in lines
    assert "x-ratelimit-remaining-tokens: 100\r\n" in lines
    assert "at a time" in str(refusal(limits, who, 1)), "its place is held until it is released"
    limits.release(withdrawn)
    older = limits.admit(who, 100)
    limits.release(older)
    clock.advance(60)
    limits.release(limits.admit(who, 70))
    limits.withdraw(older)
    assert ", 30 remain" in str(refusal(limits, who, 31))


def test_keys_do_not_share_what_they_may(limits: RateLimiter) -> None:
    limits.admit(caller("key_1", requests=1), 0)
    refusal(limits, caller("key_1", requests=1))
    limits.admit(caller("key_2", requests=1), 0)


def test_without_limits_nothing_is_counted_or_told(limits: RateLimiter) -> None:
    admitted = limits.admit(ANYBODY, 10**30)
    limits.correct(admitted, 5)
    limits.release(admitted)
    assert limits.headers(admitted) == b""


def test_refusals_are_counted_by_key(clock: Clock) -> None:
    metrics = GatewayMetrics()
    limits = RateLimiter(metrics, clock=clock)
    limits.admit(caller(requests=1), 0)
    refusal(limits, caller(requests=1))
    assert 'gateway_rate_limited_total{key="chat"} 1.0' in metrics.own(lambda _: True)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "0s"),
        (0.0001, "1ms"),
        (0.012, "12ms"),
        (1, "1s"),
        (1.5, "1.5s"),
        (59.9999, "1m0s"),
        (60, "1m0s"),
        (360, "6m0s"),
    ],
)
def test_times_are_written_as_openai_writes_them(seconds: float, written: str) -> None:
    assert duration(seconds) == written
