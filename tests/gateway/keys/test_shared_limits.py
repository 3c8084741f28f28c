"""Gateways count together in a real Redis, and each alone while Redis is away."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from gateway.errors import RateLimited
from gateway.keys.caller import Caller
from gateway.keys.limits import RateLimiter
from gateway.telemetry.metrics import GatewayMetrics
from registry.keys import KeyLimits, Scope
from registry.states import Priority
from tests.clock import Clock
from tests.redis_server import RedisServer

pytestmark = pytest.mark.redis

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A Redis that tests may stop and start again."""
    started = RedisServer()
    yield started
    started.stop()


def caller(*, requests: int | None = None, tokens: int | None = None, places: int | None = None) -> Caller:
    """Return a new caller with these limits."""
    return Caller(
        key_id=f"key_{uuid4().hex}",
        name="chat",
        tenant="chat",
        scopes=frozenset(Scope),
        models=None,
        priority=Priority.NORMAL,
        limits=KeyLimits(requests_per_minute=requests, tokens_per_minute=tokens, concurrent_requests=places),
    )


@asynccontextmanager
async def gateways(
    url: str, count: int = 2, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[list[RateLimiter]]:
    """So many gateways' limits, running."""
    made = [RateLimiter(GatewayMetrics(), url, clock) for _ in range(count)]
    running = [asyncio.create_task(limits.run()) for limits in made]
    yield made
    for limits, loop in zip(made, running, strict=True):
        assert not loop.done()
        loop.cancel()
        await limits.aclose()


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        await asyncio.sleep(0.05)


async def is_let_in(limits: RateLimiter, who: Caller, tokens: int = 0) -> bool:
    try:
        await limits.admit_shared(who, tokens)
    except RateLimited:
        return False
    return True


def test_a_minute_is_counted_over_all_gateways(server: RedisServer) -> None:
    async def story() -> None:
        async with gateways(server.url) as (one, other):
            assert one.is_shared
            who = caller(requests=3, tokens=1000)
            assert b"x-ratelimit-reset-requests: 1m0s" in one.headers(await one.admit_shared(who, 300))
            lines = other.headers(await other.admit_shared(who, 300)).decode()
            assert "x-ratelimit-remaining-requests: 1\r\n" in lines
            assert "x-ratelimit-remaining-tokens: 400\r\n" in lines
            with pytest.raises(RateLimited, match="400 remain, this request may use 500"):
                await one.admit_shared(who, 500)
            await one.admit_shared(who, 400)
            with pytest.raises(RateLimited, match="3 requests a minute; try again in") as refused:
                await other.admit_shared(who, 0)
            assert 0 < (refused.value.retry_after_s or 0) <= 60

    asyncio.run(story())


def test_what_is_settled_at_one_gateway_is_left_for_all(server: RedisServer) -> None:
    async def story() -> None:
        async with gateways(server.url) as (one, other):
            who = caller(tokens=1000)
            first, second = await one.admit_shared(who, 600), await one.admit_shared(who, 300)
            assert not await is_let_in(other, who, 500)
            one.correct(first, 100)
            one.correct(second, 310)
            await until(lambda: is_let_in(other, who, 590))
            assert not await is_let_in(other, who, 1)

    asyncio.run(story())


def test_what_one_gateway_withdraws_is_left_for_all(server: RedisServer) -> None:
    async def story() -> None:
        async with gateways(server.url) as (one, other):
            who = caller(requests=2, tokens=1000)
            withdrawn = await one.admit_shared(who, 600)
            await one.admit_shared(who, 300)
            one.withdraw(withdrawn)
            await until(lambda: is_let_in(other, who, 700))
            assert not await is_let_in(other, who, 0)

    asyncio.run(story())


def test_tokens_go_back_only_to_the_minute_that_they_came_from(server: RedisServer) -> None:
    async def story() -> None:
        async with gateways(server.url) as (one, other):
            who = caller(tokens=1000)
            long, longer = await one.admit_shared(who, 500), await one.admit_shared(who, 100)
            with redis.Redis.from_url(server.url) as client:
                client.hset(f"lorry:{who.key_id}/minute", "ends", 1)  # the minute passes
            await other.admit_shared(who, 900)
            one.correct(long, 10)
            one.correct(longer, 150)

            async def is_charged() -> bool:
                with pytest.raises(RateLimited) as refused:
                    await other.admit_shared(who, 101)
                return refused.value.headers["x-ratelimit-remaining-tokens"] == "50"

            await until(is_charged)

    asyncio.run(story())


def test_what_was_used_beyond_the_estimate_counts_although_its_minute_is_over(server: RedisServer) -> None:
    async def story() -> None:
        async with gateways(server.url, 1) as (one,):
            who = caller(tokens=1000)
            admitted = await one.admit_shared(who, 100)
            with redis.Redis.from_url(server.url) as client:
                client.delete(f"lorry:{who.key_id}/minute")  # the minute passes
                one.correct(admitted, 400)

                async def is_charged() -> bool:
                    return bool(client.hget(f"lorry:{who.key_id}/minute", "tokens") == b"300")

                await until(is_charged)
                assert 0 < client.pttl(f"lorry:{who.key_id}/minute") <= 60_000

    asyncio.run(story())


def test_a_client_that_leaves_while_redis_is_asked_keeps_no_place(server: RedisServer) -> None:
    async def story() -> None:
        async with gateways(server.url, 1) as (one,):
            who = caller(places=1000)
            for turn in range(100):
                asking = asyncio.create_task(one.admit_shared(who, 0))
                for _ in range(turn % 10):
                    await asyncio.sleep(0)
                asking.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    one.release(await asking)
            with redis.Redis.from_url(server.url) as client:

                async def are_free() -> bool:
                    return bool(client.zcard(f"lorry:{who.key_id}/places") == 0)

                await until(are_free, timeout_s=60)

    asyncio.run(story())


def test_requests_at_a_time_are_counted_over_all_gateways(server: RedisServer) -> None:
    async def story() -> None:
        async with gateways(server.url) as (one, other):
            who = caller(places=2)
            first = await one.admit_shared(who, 0)
            await other.admit_shared(who, 0)
            with pytest.raises(RateLimited, match="2 requests at a time"):
                await one.admit_shared(who, 0)
            one.release(first)
            await until(lambda: is_let_in(other, who))
            assert not await is_let_in(one, who)

    asyncio.run(story())


def test_a_refused_request_takes_nothing(server: RedisServer) -> None:
    async def story() -> None:
        async with gateways(server.url, 1) as (one,):
            who = caller(requests=3, tokens=100, places=1)
            first = await one.admit_shared(who, 50)
            for tokens in (60, 50, 10**30):
                assert not await is_let_in(one, who, tokens)
            one.release(first)
            await until(lambda: is_let_in(one, who, 50))
            assert not await is_let_in(one, who, 1)
            with pytest.raises(RateLimited) as refused:
                await one.admit_shared(who, 0)
            assert refused.value.headers["x-ratelimit-remaining-requests"] == "1"

    asyncio.run(story())


HOLD = """
import asyncio, sys
from gateway.keys.limits import RateLimiter
from gateway.telemetry.metrics import GatewayMetrics
from tests.gateway.keys.test_shared_limits import caller
import dataclasses

async def hold():
    limits = RateLimiter(GatewayMetrics(), sys.argv[1])
    await limits.admit_shared(dataclasses.replace(caller(places=1), key_id=sys.argv[2]), 0)
    print("held", flush=True)
    await limits.run()

asyncio.run(hold())
"""


@pytest.mark.long
def test_the_place_of_a_killed_gateway_is_free_when_its_lease_runs_out(server: RedisServer) -> None:
    who = caller(places=1)
    command = [sys.executable, "-c", HOLD, server.url, who.key_id]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        child.send_signal(signal.SIGKILL)

    async def story() -> None:
        async with gateways(server.url, 1) as (one,):
            assert not await is_let_in(one, who)
            with redis.Redis.from_url(server.url) as client:
                places = f"lorry:{who.key_id}/places"
                assert 0 < client.pttl(places) <= 30_000
                (lease,) = client.zrange(places, 0, -1)
                client.zincrby(places, -30_000, lease)  # half a minute passes
            assert await is_let_in(one, who)

    asyncio.run(story())


def test_the_place_of_a_long_request_is_kept(server: RedisServer) -> None:
    async def story() -> None:
        clock = Clock()
        async with gateways(server.url, 1, clock.steady) as (one,):
            who = caller(places=2)
            await one.admit_shared(who, 0)
            places = f"lorry:{who.key_id}/places"
            with redis.Redis.from_url(server.url) as client:
                ((lease, began),) = client.zrange(places, 0, -1, withscores=True)
                clock.advance(11.0)
                one.release(await one.admit_shared(who, 0))  # wakes what renews, whose time has come

                async def is_renewed() -> bool:
                    return float(client.zscore(places, lease) or 0) > float(began)

                await until(is_renewed)

    asyncio.run(story())


@pytest.mark.long
def test_while_redis_is_away_each_gateway_counts_alone_and_then_together_again(server: RedisServer) -> None:
    async def story() -> None:
        async with gateways(server.url) as (one, other):
            who = caller(requests=2)
            admitted = await one.admit_shared(who, 0)
            server.stop()
            assert [await is_let_in(one, who) for _ in range(3)] == [True, True, False]
            assert [await is_let_in(other, who) for _ in range(3)] == [True, True, False]
            one.correct(admitted, 5)
            one.release(admitted)
            assert one.headers(admitted)
            server.start()
            fresh = caller(requests=2)

            async def are_together() -> bool:
                passed = caller(requests=1)
                return await is_let_in(one, passed) and not await is_let_in(other, passed)

            await until(are_together)
            assert [await is_let_in(limits, fresh) for limits in (one, other, one)] == [True, True, False]

    asyncio.run(story())


def test_a_redis_that_hangs_holds_a_request_up_for_less_than_a_second(server: RedisServer) -> None:
    async def story() -> None:
        async with gateways(server.url, 1) as (one,):
            who = caller(requests=9)
            await one.admit_shared(who, 0)
            server.process.send_signal(signal.SIGSTOP)
            try:
                async with asyncio.timeout(1.0):
                    await one.admit_shared(who, 0)
                async with asyncio.timeout(0.1):
                    await one.admit_shared(who, 0)
            finally:
                server.process.send_signal(signal.SIGCONT)

    asyncio.run(story())
