"""`python -m studies.scale.measure`: what each reader and writer of the registry of a large fleet costs."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import orjson
import sqlalchemy as sa
import typer
from rich.console import Console
from rich.table import Table

from bench.big_registry import BASE, CAPACITY, fill, replica
from gateway.rollouts.controller import reconcile
from gateway.routing.placement import wanted_in
from gateway.routing.route_table import build_table
from gateway.settings import GatewaySettings
from registry import tables
from registry.database import Registry, open_registry
from registry.schema import migrate
from registry.settings import RegistrySettings
from registry.states import ReplicaState
from studies.scale.counted import Cost, CountingRelay
from tests.postgres_server import PostgresServer

WRITERS: Final = 8
"""Threads that report heartbeats at once, to find how many a second the database takes."""
HEARTBEATS_S: Final = 10.0
WATCH_S: Final = 86400.0
"""How long gateways watch a promotion by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A step of a gateway, a replica or the controller, and its cost."""

    who: str
    step: str
    cost: Cost


class Fleet:
    """A registry of a size, with somebody who writes and readers whose bytes are counted."""

    def __init__(self, server: PostgresServer, folder: Path, adapters: int, replicas: int) -> None:
        url = server.url.render_as_string(hide_password=False)
        migrate(url)
        self.adapters, self.replicas = adapters, replicas
        self._folder = folder
        self.writer = open_registry(RegistrySettings(url=url, artifacts=folder / "artifacts"))
        fill(self.writer, adapters, replicas)
        self.relay = CountingRelay(server.url)

    def reader(self) -> Registry:
        """Return a registry of its own whose connections are counted."""
        url = self.relay.url.render_as_string(hide_password=False)
        return open_registry(RegistrySettings(url=url, artifacts=self._folder / "artifacts"))

    def change_replica(self) -> None:
        """Have a replica report one adapter less."""
        row = self.writer.replicas.get(replica(0, ()).id)
        self.writer.replicas.report(replace(row, slots=row.slots[1:]))

    def publish(self) -> None:
        """Add an adapter with a revision, as a publication does."""
        name = f"new-{time.time_ns()}"
        with self.writer.transactions.write() as tx:
            for table in (tables.adapters, tables.revisions):
                like = sa.select(table).limit(1)
                row = dict(tx.execute(like).mappings().one())
                row |= {"name": name} if table is tables.adapters else {"adapter": name, "alias": None}
                row.pop("seq", None)
                tx.execute(sa.insert(table).values(row))

    def await_revision(self) -> None:
        """Have requests of a gateway wait for a revision."""
        self.writer.uses.await_revision("g0", f"adapter-{time.time_ns() % self.adapters:05}@1", 1)


class Steps:
    """Does steps one after the other, and keeps their costs."""

    def __init__(self, relay: CountingRelay) -> None:
        self._relay = relay
        self.found: list[Measured] = []

    def do(self, who: str, step: str, work: Callable[[], object]) -> None:
        """Do a step and keep its cost."""
        with self._relay.cost() as cost:
            work()
        self.found.append(Measured(who=who, step=step, cost=cost))


def measure(fleet: Fleet) -> list[Measured]:
    """Return the cost of each step of each reader and writer, one after the other."""
    steps = Steps(fleet.relay)
    for part in (_measure_gateway, _measure_replica, _measure_controller):
        part(fleet, steps)
    return steps.found


def _measure_gateway(fleet: Fleet, steps: Steps) -> None:
    gateway, fresh = fleet.reader(), fleet.reader()
    table = build_table(gateway.snapshot(WATCH_S))

    def read_routes() -> None:
        nonlocal table
        gateway.changes()
        table = build_table(gateway.snapshot(WATCH_S), table)

    steps.do("gateway", "first reading", lambda: build_table(fresh.snapshot(WATCH_S)))
    steps.do("gateway", "look for changes", gateway.changes)
    steps.do("gateway", "whole reading, nothing changed", read_routes)
    for name, change in (
        ("reading after a replica's change", fleet.change_replica),
        ("reading after a publication", fleet.publish),
        ("reading after a revision was asked for", fleet.await_revision),
    ):
        change()
        steps.do("gateway", name, read_routes)
    used = {f"adapter-{number:05}@1": 1 for number in range(1_000)}
    steps.do("gateway", "report 1,000 used revisions", lambda: gateway.uses.record("g1", used))
    gateway.close()
    fresh.close()


def _measure_replica(fleet: Fleet, steps: Steps) -> None:
    host = fleet.reader()
    own = host.replicas.get(replica(1, ()).id)

    def read_placement() -> None:
        wanted_in(host.placement_snapshot(BASE, BASE), own, warm_since=0.0)

    steps.do("replica", "first placement", read_placement)
    steps.do("replica", "placement, nothing changed", read_placement)
    fleet.await_revision()
    steps.do("replica", "placement after a revision was asked for", read_placement)
    steps.do("replica", "heartbeat", lambda: host.replicas.report(replace(own, heartbeat_at=time.time())))
    host.close()


def _measure_controller(fleet: Fleet, steps: Steps) -> None:
    registry, knobs = fleet.reader(), GatewaySettings()

    def step() -> None:
        reconcile(registry, knobs, time.time(), trusts_silence=False)

    steps.do("controller", "first step", step)
    steps.do("controller", "step, nothing changed", step)
    fleet.change_replica()
    steps.do("controller", "step after a replica's change", step)
    registry.close()


def heartbeats_a_second(fleet: Fleet) -> float:
    """Return how many heartbeats a second `WRITERS` threads of one process get into the database."""
    ends, counts = time.monotonic() + HEARTBEATS_S, [0] * WRITERS

    def beat(number: int) -> None:
        own = replica(number, (f"adapter-{slot:05}" for slot in range(CAPACITY)))
        while time.monotonic() < ends:
            fleet.writer.replicas.report(replace(own, state=ReplicaState.READY, heartbeat_at=time.time()))
            counts[number] += 1

    threads = [threading.Thread(target=beat, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / HEARTBEATS_S


def run(
    adapters: int = typer.Option(100_000, min=100),
    replicas: int = typer.Option(2_000, min=10),
    json: Path | None = typer.Option(None, help="Write the figures to this file."),
) -> None:
    """Fill a PostgreSQL of our own with a fleet of that size and measure what each reader and writer costs."""
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch, "postgres")
        home.mkdir()
        Path(scratch).chmod(0o755)
        server = PostgresServer(home)
        server.start()
        began = time.monotonic()
        fleet = Fleet(server, Path(scratch), adapters, replicas)
        filled_s = time.monotonic() - began
        found = measure(fleet)
        beats = heartbeats_a_second(fleet)
        fleet.relay.close()
        fleet.writer.close()
        server.stop()
    if json is not None:
        json.write_bytes(orjson.dumps([asdict(each) for each in found]))
    table = Table(
        title=f"{adapters:,} adapters, {replicas:,} replicas; filled in {filled_s:.0f} s; {beats:.0f} heartbeats/s"
    )
    for heading in ("who", "step", "statements", "sent kB", "received kB", "s", "processor s"):
        table.add_column(heading, justify="left" if heading in {"who", "step"} else "right")
    for each in found:
        of = each.cost
        table.add_row(
            each.who, each.step, str(of.statements), f"{of.sent_bytes / 1e3:,.1f}", f"{of.received_bytes / 1e3:,.1f}",
            f"{of.seconds:.3f}", f"{of.processor_s:.3f}",
        )  # fmt: skip
    Console(width=140).print(table)


if __name__ == "__main__":
    typer.run(run)
