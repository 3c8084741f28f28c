"""Measure what shadow copies cost clients, on the real engine: the same load without and with copies, in turn.

    python bench/shadow_cost.py --model DIR --kind 10:0 --kind 50:0 [--clients 2] [--gateways 1] [--rounds 4]

Gateways stand before one transformers engine with two adapters. Each client streams answers of the same length one
after the other. A kind is the percent of requests that are copied, and the setting `shadow_client_requests`; rounds
without copies and of each kind alternate, forwards and backwards, and all requests of each are compared.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import socket
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import Final

import httpx2
import uvicorn

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.streaming import WORDS, stream
from engines.drivers.transformers import TransformersEngine
from engines.settings import EngineSettings
from gateway.app import build_gateway
from gateway.settings import GatewaySettings
from gateway.up.http_server import server_config
from registry.artifacts import folder_digest
from registry.contracts.fingerprint import write_fingerprint
from registry.database import Registry, open_registry
from registry.publishing.publish import publish
from registry.rollouts.rollout import RolloutPlan, step_from
from registry.rollouts.rollout_state import RolloutState
from registry.rollouts.tally import Side
from registry.schema import migrate
from registry.settings import RegistrySettings
from registry.states import ReplicaState, SlotState
from registry.types import Base, Replica, RevisionDraft, Slot
from tests.conftest import made_up_fingerprint
from tests.engines.random_adapter import write_adapter

ROUTE_REFRESH_S: Final = 0.25
SERVED: Final = ("support@1", "support@2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How copies are made."""

    percent: int
    client_requests: int


NO_COPIES: Final = Kind(percent=0, client_requests=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request as its client saw it."""

    first_token_s: float
    total_s: float


def main() -> None:
    """Measure and print every kind and its ratio to no copies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--kind", action="append", required=True, help="PERCENT:shadow_client_requests, several times")
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--gateways", type=int, default=1, help="over which the clients are spread")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--requests", type=int, default=12, help="of each client in a round")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--pause-s", type=float, default=0.0, help="mean pause of a client between two requests")
    asyncio.run(compare(parser.parse_args()))


async def compare(args: argparse.Namespace) -> None:
    """Run all rounds against an engine and a gateway that end with us."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        engine = TransformersEngine(
            EngineSettings(base_path=args.model, base_name="base", log_path=folder / "engine.log", threads=1), {}
        )
        registry = fill_registry(folder, args.model)
        await engine.start()
        try:
            for number, name in enumerate(SERVED, 1):
                artifact = registry.adapters.revision("support", number).artifact
                await engine.load_adapter(name, registry.artifacts.folder(artifact))
            registry.replicas.report(replica_at(engine.base_url))
            await run_rounds(registry, args)
        finally:
            await engine.stop(5.0)
            registry.close()


def fill_registry(folder: Path, model: Path) -> Registry:
    """Return a registry with `support@1`, which is stable, and `support@2`."""
    settings = RegistrySettings(url=f"sqlite:///{folder / 'registry.db'}", artifacts=folder / "artifacts")
    migrate(settings.url)
    registry = open_registry(settings)
    base = Base(name="base", path=str(model), digest=folder_digest(model), licence="apache-2.0", created_at=0.0)
    registry.bases.enter(base)
    for seed in (1, 2):
        adapter = write_adapter(folder / f"adapter-{seed}", model, seed)
        write_fingerprint(made_up_fingerprint(base.digest), adapter)
        publish(registry, adapter, RevisionDraft(adapter="support", base="base", owner="load"))
    registry.adapters.set_first_stable("support", 1, reason="first_revision")
    return registry


def replica_at(url: str) -> Replica:
    """Return the engine as a replica that has both adapters."""
    return Replica(
        id="r0",
        base="base",
        engine="transformers",
        url=url,
        state=ReplicaState.READY,
        capacity=8,
        slots=tuple(Slot(served_name=name, state=SlotState.READY) for name in SERVED),
        message="",
        started_at=0.0,
        heartbeat_at=0.0,
    )


async def run_rounds(registry: Registry, args: argparse.Namespace) -> None:
    """Run every kind of round in turn, forwards and backwards."""
    kinds = [NO_COPIES, *(kind_from(text) for text in args.kind)]
    seen: dict[Kind, list[Seen]] = {kind: [] for kind in kinds}
    copies: Counter[Kind] = Counter()
    source = random.Random(7)
    async with contextlib.AsyncExitStack() as running:
        doors = {kind: await running.enter_async_context(serving(registry, kind, args.gateways)) for kind in kinds}
        await one_round(doors[NO_COPIES], args, source)  # warms up
        for index in range(args.rounds):
            for kind in kinds if index % 2 == 0 else reversed(kinds):
                rollout = begin_copies(registry, kind.percent) if kind.percent else None
                await asyncio.sleep(2 * ROUTE_REFRESH_S)
                seen[kind] += await one_round(doors[kind], args, source)
                if rollout is not None:
                    registry.rollouts.move(rollout, RolloutState.PROGRESSING, RolloutState.ABORTED, reason="measured")
                    await asyncio.sleep(2.0)  # the last copy ends
                    copies[kind] += shadow_requests(registry, rollout)
            sys.stdout.write(f"after {index + 1} of {args.rounds} rounds of each kind\n")
            for kind in kinds:
                show(kind, seen[kind], seen[NO_COPIES], copies[kind], await left_out(doors[kind]))
            sys.stdout.flush()


@contextlib.asynccontextmanager
async def serving(registry: Registry, kind: Kind, gateways: int) -> AsyncIterator[list[httpx2.AsyncClient]]:
    """Provide a client for each gateway that makes copies in this way."""
    knobs = GatewaySettings(
        observe_flush_s=0.2, route_refresh_s=ROUTE_REFRESH_S, shadow_client_requests=kind.client_requests
    )
    servers, clients = [], []
    for _ in range(gateways):
        server = uvicorn.Server(server_config(build_gateway(knobs, registry)))
        listener = socket.create_server(("127.0.0.1", 0))
        running = asyncio.create_task(server.serve(sockets=[listener]))
        servers.append((server, running))
        while not server.started:
            if running.done():
                running.result()
            await asyncio.sleep(0.01)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        clients.append(httpx2.AsyncClient(base_url=url, timeout=300, trust_env=False))
    try:
        yield clients
    finally:
        for client in clients:
            await client.aclose()
        for server, running in servers:
            server.should_exit = True
            await running


def kind_from(text: str) -> Kind:
    """Return the kind of `10:0`: ten percent are copied, and none while a client is there."""
    percent, _, client_requests = text.partition(":")
    return Kind(percent=int(percent), client_requests=int(client_requests))


def begin_copies(registry: Registry, percent: int) -> str:
    """Begin a shadow step and return the rollout's id."""
    plan = RolloutPlan(steps=(step_from(f"shadow:{percent}"), step_from(100)))
    rollout = registry.rollouts.start("support", 2, plan, "load")
    return registry.rollouts.move(rollout.id, rollout.state, RolloutState.PROGRESSING, reason="measured").id


def shadow_requests(registry: Registry, rollout_id: str) -> int:
    """Return how many copies were answered."""
    cells = registry.tallies.of_rollout(rollout_id)
    return sum(tally.requests for cell, tally in cells.items() if cell.side is Side.SHADOW_CANARY)


async def one_round(doors: list[httpx2.AsyncClient], args: argparse.Namespace, source: random.Random) -> list[Seen]:
    """Return the results of every client's requests, which are spread over the gateways."""

    async def client(http: httpx2.AsyncClient) -> list[Seen]:
        found = []
        for _ in range(args.requests):
            if args.pause_s:
                await asyncio.sleep(source.expovariate(1 / args.pause_s))
            began = perf_counter()
            first = await stream(http, {"model": "support"}, " ".join(source.choices(WORDS, k=30)), args.tokens)
            found.append(Seen(first_token_s=first, total_s=perf_counter() - began))
        return found

    clients = [client(doors[number % len(doors)]) for number in range(args.clients)]
    return list(chain.from_iterable(await asyncio.gather(*clients)))


async def left_out(doors: list[httpx2.AsyncClient]) -> str:
    """Return how many copies these gateways left out, by reason."""
    found: Counter[str] = Counter()
    for http in doors:
        for line in (await http.get("/metrics")).text.splitlines():
            if line.startswith("gateway_rollout_shadow_dropped_total{"):
                found[line.partition('reason="')[2].partition('"')[0]] += int(float(line.rpartition(" ")[2]))
    return ", ".join(f"{count} {reason}" for reason, count in sorted(found.items())) or "none"


def show(kind: Kind, seen: list[Seen], without: list[Seen], copies: int, missing: str) -> None:
    """Print a row for each figure: without copies, with them, and the ratio."""
    title = "without copies" if kind == NO_COPIES else f"{kind.percent} %, beside {kind.client_requests} of clients"
    lines = [f"{title}: {len(seen)} requests, {copies} copies made, left out: {missing}"]
    first, before = ([one.first_token_s for one in each] for each in (seen, without))
    total, total_before = ([one.total_s for one in each] for each in (seen, without))
    figures = {
        "first token, median s": (statistics.median(first), statistics.median(before)),
        "first token, mean s": (statistics.fmean(first), statistics.fmean(before)),
        "first token, p95 s": (p95(first), p95(before)),
        "whole answer, median s": (statistics.median(total), statistics.median(total_before)),
        "whole answer, mean s": (statistics.fmean(total), statistics.fmean(total_before)),
        "whole answer, p95 s": (p95(total), p95(total_before)),
    }
    lines += [f"  {name:24} {on:8.3f}   ratio {on / off:.2f}" for name, (on, off) in figures.items()]
    sys.stdout.write("\n".join(lines) + "\n")


def p95(times: list[float]) -> float:
    """Return the 95th percentile of *times*."""
    return statistics.quantiles(times, n=20)[-1]


if __name__ == "__main__":
    main()
