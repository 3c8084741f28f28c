"""Measure what routing costs by the size of the table, and how long a change takes to reach every gateway.

    python bench/table_cost.py [--rounds 9] [--requests 2000] [--changes 20]

Cost: `resolve`, `endpoints_of` and the balancer's choice, begin and end, for the same traffic over tables of several
sizes, which take turns in every round; medians over the rounds, and their ratio to the smallest table's of the same
round. Change: processes with a `RouteFeed` each over one SQLite registry, and the time from a commit to the table.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Final

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.big_registry import CAPACITY, fill, settings_in, snapshot_of
from gateway.balancing.balancing import Balancer, affinity_of
from gateway.balancing.replica_health import ReplicaHealth
from gateway.routing.route_feed import RouteFeed
from gateway.routing.route_table import build_table
from gateway.routing.routing import RouteTable, resolve
from gateway.settings import GatewaySettings
from registry import tables
from registry.database import open_registry
from registry.settings import RegistrySettings

ADAPTERS: Final = (10, 1_000, 10_000)
REPLICAS: Final = (2, 100, 1_000)
IN_FLIGHT: Final = 64


def main() -> None:
    """Measure and print; `--role follow` is for our own children."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=2_000, help="of each table in a round")
    parser.add_argument("--changes", type=int, default=20)
    parser.add_argument("--role", choices=("measure", "follow"), default="measure", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role == "follow":
        asyncio.run(follow(args.folder))
        return
    sized("adapters", {f"{count}": table_of(count, 100) for count in ADAPTERS}, args)
    sized("replicas", {f"{count}": table_of(1_000, count) for count in REPLICAS}, args)
    sized("replicas, all of which have every adapter", {f"{n}": table_of(CAPACITY, n) for n in REPLICAS}, args)
    for adapters, replicas in ((10, 2), (10_000, 1_000)):
        for gateways in (1, 4):
            asyncio.run(changes(adapters, replicas, gateways, args.changes))


def table_of(adapters: int, replicas: int) -> RouteTable:
    """Return the table of so many adapters on so many replicas."""
    return build_table(snapshot_of(adapters, replicas))


def sized(what: str, by_size: dict[str, RouteTable], args: argparse.Namespace) -> None:
    """Print what a request costs with each table."""
    takers = {size: Taker(table) for size, table in by_size.items()}
    for taker in takers.values():
        taker.take(args.requests)
    costs: dict[str, list[float]] = {size: [] for size in by_size}
    for _ in range(args.rounds):
        for size, taker in takers.items():
            costs[size].append(taker.take(args.requests))
    first = costs[next(iter(costs))]
    for size, found in costs.items():
        ratio = statistics.median(here / there for here, there in zip(found, first, strict=True))
        _say(f"{size:>6} {what}: {statistics.median(found):5.2f} us a request, ratio {ratio:4.2f}")


class Taker:
    """Routes requests for the adapters of one table as a gateway does."""

    def __init__(self, table: RouteTable) -> None:
        self._table = table
        self._balancer = Balancer(ReplicaHealth())
        served = [name for name in table.routes if table.endpoints_of(f"{name}@1")]
        # the same number of different names and prefixes whatever the table's size, so that only its size differs
        self._names = [served[number * len(served) // 10] for number in range(10)]
        self._busy: list[tuple[str, str]] = []

    def take(self, requests: int) -> float:
        """Return the microseconds of processor time that a request takes."""
        began = time.process_time()
        for number in range(requests):
            target = resolve(self._table, self._names[number % 10], "conversation")
            affinity = affinity_of(target.served_name, b"prompt %d" % (number % 500))
            endpoint = self._balancer.choose(self._table.endpoints_of(target.served_name), affinity, (), 0.0)
            if endpoint is not None:
                self._balancer.begin(endpoint.replica, target.served_name)
                self._busy.append((endpoint.replica, target.served_name))
            if len(self._busy) > IN_FLIGHT:
                self._balancer.end(*self._busy.pop(0))
        return 1e6 * (time.process_time() - began) / requests


async def changes(adapters: int, replicas: int, gateways: int, count: int) -> None:
    """Print how long changes take from their commit to the table of the last of *gateways*."""
    with tempfile.TemporaryDirectory() as scratch:
        registry = open_registry(settings_in(Path(scratch)))
        fill(registry, adapters, replicas)
        followers = [await _follower(Path(scratch)) for _ in range(gateways)]
        try:
            for follower in followers:
                await _line(follower)
            delays = []
            for number in range(count):
                stable = 2 + number
                with registry.transactions.write() as tx:
                    moved = sa.update(tables.adapters).where(tables.adapters.c.name == "adapter-00001")
                    tx.execute(moved.values(stable=stable))
                began = time.monotonic()
                seen = [await _seen(follower, stable) for follower in followers]
                delays.append(max(seen) - began)
                await asyncio.sleep(0.013 * (number % 7))  # another moment between two looks each time
            for follower in followers:
                assert follower.stdin is not None
                follower.stdin.close()
                await follower.wait()
        finally:
            for follower in followers:
                if follower.returncode is None:
                    follower.kill()
            registry.close()
    middle, longest = statistics.median(delays), max(delays)
    _say(
        f"{adapters} adapters, {replicas} replicas: a change is in the tables of {gateways} gateways after "
        f"{1000 * middle:.0f} ms in the middle, {1000 * longest:.0f} ms at most"
    )


async def _follower(folder: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--role=follow", f"--folder={folder}", stdin=PIPE, stdout=PIPE
    )


async def _line(follower: asyncio.subprocess.Process) -> list[float]:
    assert follower.stdout is not None
    told: list[float] = json.loads(await asyncio.wait_for(follower.stdout.readline(), 60))
    return told


async def _seen(follower: asyncio.subprocess.Process, stable: int) -> float:
    """Return when the follower had a table with this number, in monotonic seconds, which processes share."""
    while True:
        number, at = await _line(follower)
        if number == stable:
            return at


async def follow(folder: Path) -> None:
    """Print the stable revision of an adapter and the time, each time that it has changed in the table."""
    registry = open_registry(
        RegistrySettings(url=f"sqlite:///{folder / 'registry.db'}", artifacts=folder / "artifacts")
    )
    feed = RouteFeed(registry, GatewaySettings())
    await feed.refresh()
    running = asyncio.create_task(feed.run())
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    said = ""
    while not ended.done():
        stable = feed.table.routes["adapter-00001"].stable or ""
        if stable != said:
            said = stable
            _say(json.dumps([int(stable.rpartition("@")[2]), time.monotonic()]))
        await asyncio.sleep(0.001)
    running.cancel()
    registry.close()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
