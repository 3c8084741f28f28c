"""Measure what keys and limits cost a request: the time of each step, in memory and in Redis.

    python bench/key_cost.py [--keys 1000] [--rounds 7]

A thousand keys in a gateway's memory; each figure is the median of the rounds. Redis is one that this script starts.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from gateway.keys.access import check_model
from gateway.keys.caller import Caller
from gateway.keys.keyring import Keyring
from gateway.keys.limits import RateLimiter
from gateway.routing.routing import RouteTable
from gateway.telemetry.metrics import GatewayMetrics
from registry.database import Registry, open_registry
from registry.keys import KeyDraft, KeyLimits, Scope
from registry.schema import migrate
from registry.settings import RegistrySettings
from tests.redis_server import RedisServer

TIMES: Final = 20_000
"""Calls in a round."""
ENDLESS: Final = 10**9
TABLE = RouteTable(private={"sales": "sales"})
LIMITS: Final = KeyLimits(requests_per_minute=ENDLESS, tokens_per_minute=ENDLESS, concurrent_requests=ENDLESS)


def main() -> None:
    """Measure and print microseconds a call."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        settings = RegistrySettings(url=f"sqlite:///{scratch}/registry.db", artifacts=Path(scratch) / "artifacts")
        migrate(settings.url)
        registry = open_registry(settings)
        in_memory(registry, args.keys, args.rounds)
        registry.close()
    server = RedisServer()
    try:
        asyncio.run(in_redis(server.url, args.rounds))
    finally:
        server.stop()


def show(step: str, rounds: int, times: int, call: Callable[[], object]) -> None:
    """Print the median over the rounds."""
    spent = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(times):
            call()
        spent.append((time.perf_counter() - began) / times)
    print(f"{step:<50} {1e6 * statistics.median(spent):8.2f} us")


def in_memory(registry: Registry, keys: int, rounds: int) -> None:
    """Measure the steps of a request at a gateway that counts alone."""
    free = registry.keys.create(KeyDraft(name="free", scopes=frozenset(Scope)), actor="load")
    held = KeyDraft(name="held", scopes=frozenset(Scope), models=frozenset({"support"}), limits=LIMITS)
    limited = registry.keys.create(held, actor="load")
    for number in range(keys - 2):
        registry.keys.create(KeyDraft(name=f"key-{number}", scopes=frozenset(Scope)), actor="load")
    keyring = Keyring(registry, refresh_s=1, report_s=1, is_loopback=True)
    asyncio.run(keyring.refresh())
    limits = RateLimiter(GatewayMetrics())
    for issued in (free, limited):
        header = f"Bearer {issued.secret}".encode()
        caller = keyring.caller_of(header, 0.0)

        def whole(header: bytes = header) -> None:
            caller = keyring.caller_of(header, 0.0)
            keyring.check(caller, Scope.INFERENCE)
            check_model(caller, TABLE, "support")
            limits.release(limits.admit(caller, 100))

        def tell(caller: Caller = caller) -> None:
            limits.headers(limits.admit(caller, 100))

        name = issued.key.name
        show(f"{name}: find the key", rounds, TIMES, lambda header=header: keyring.caller_of(header, 0.0))  # type: ignore[misc]
        show(f"{name}: find, check, admit, release", rounds, TIMES, whole)
        show(f"{name}: admit and write the headers", rounds, TIMES, tell)
    show("nothing changed: read the keys again", rounds, 100, lambda: asyncio.run(keyring.refresh()))


async def in_redis(url: str, rounds: int) -> None:
    """Measure the steps at gateways that count together, one after the other and many at once."""
    limits = RateLimiter(GatewayMetrics(), url)
    running = asyncio.create_task(limits.run())
    for told, at_once in (("one at a time", 1), ("64 at a time", 64)):
        for name, kept in (
            ("requests", KeyLimits(requests_per_minute=ENDLESS)),
            ("all three limits", LIMITS),
        ):
            caller = Caller(
                key_id=f"{told}-{name}",
                name=name,
                tenant=name,
                scopes=frozenset(Scope),
                models=None,
                priority=KeyDraft(name="x", scopes=frozenset()).priority,
                limits=kept,
            )

            async def one(caller: Caller = caller) -> None:
                limits.release(await limits.admit_shared(caller, 100))

            await show_async(f"Redis, {told}: {name}", rounds, at_once, one)
    running.cancel()
    await limits.aclose()


async def show_async(step: str, rounds: int, at_once: int, call: Callable[[], Awaitable[None]]) -> None:
    """Print the median over the rounds, of the wall and of this process's processor."""
    walls, busy = [], []
    for _ in range(rounds):
        began, used = time.perf_counter(), time.process_time()
        for _ in range(640 // at_once):
            await asyncio.gather(*(call() for _ in range(at_once)))
        walls.append((time.perf_counter() - began) / 640)
        busy.append((time.process_time() - used) / 640)
    print(f"{step:<50} {1e6 * statistics.median(walls):8.2f} us, processor {1e6 * statistics.median(busy):8.2f} us")


if __name__ == "__main__":
    main()
