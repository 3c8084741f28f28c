"""What copies of a shadow step cost the clients, on the real engine: the same load without and with copies, in turn.

    python tests/load/shadow_cost.py --model DIR --percent 10 --clients 4 [--rounds 4] [--requests 12] [--pause-s 0.5]

A gateway stands before one transformers engine with two adapters. Each client streams answers of the same length one
after the other. Rounds alternate (off, on, on, off, ...), and medians over all requests of each kind are compared.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import socket
import statistics
import sys
import tempfile
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import Final

import httpx2
import uvicorn

sys.path.insert(0, str(Path(__file__).parents[2]))

from engines.settings import EngineSettings
from engines.transformers.driver import TransformersEngine
from gateway.app import build_gateway
from gateway.http_server import server_config
from gateway.settings import GatewaySettings
from registry.artifacts import folder_digest
from registry.database import Registry, migrate, open_registry
from registry.fingerprint import write_fingerprint
from registry.observation import Side
from registry.publish import publish
from registry.rollout import RolloutPlan, RolloutState, step_from
from registry.settings import RegistrySettings
from registry.types import Base, Replica, ReplicaState, RevisionDraft, Slot, SlotState
from tests.conftest import made_up_fingerprint
from tests.engines.random_adapter import write_adapter
from tests.load.streaming import WORDS, stream

ORDER: Final = (False, True, True, False)
"""Without and with copies, so that a machine that gets slower or faster disturbs both alike."""
SERVED: Final = ("support@1", "support@2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One request as its client saw it."""

    first_token_s: float
    total_s: float


def main() -> None:
    """Measure and print both kinds of rounds and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--percent", type=int, default=10)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--requests", type=int, default=12, help="of each client in a round")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--pause-s", type=float, default=0.0, help="mean pause of a client between two requests")
    parser.add_argument("--client-requests", type=int, help="the setting shadow_client_requests")
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
    """A registry with `support@1`, which is stable, and `support@2`."""
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
    """The engine as a replica that has both adapters."""
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
    """Rounds without and with copies through one gateway."""
    changed = {} if args.client_requests is None else {"shadow_client_requests": args.client_requests}
    knobs = GatewaySettings(observe_flush_s=0.2, **changed)
    server = uvicorn.Server(server_config(build_gateway(knobs, registry)))
    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        if serving.done():
            serving.result()
        await asyncio.sleep(0.01)
    port = listener.getsockname()[1]
    seen: dict[bool, list[Seen]] = {False: [], True: []}
    copies = 0
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=300, trust_env=False) as http:
        source = random.Random(7)
        await one_round(http, args, source)  # warms up
        for index in range(args.rounds):
            copied = ORDER[index % len(ORDER)]
            rollout = begin_copies(registry, args.percent) if copied else None
            await asyncio.sleep(2 * knobs.route_refresh_s)
            seen[copied] += await one_round(http, args, source)
            if rollout is not None:
                registry.rollouts.move(rollout, RolloutState.PROGRESSING, RolloutState.ABORTED, reason="measured")
                await asyncio.sleep(2.0)  # the last copy ends
                copies += shadow_requests(registry, rollout)
        dropped = [line for line in (await http.get("/metrics")).text.splitlines() if "shadow_dropped_total{" in line]
    server.should_exit = True
    await serving
    show(seen, copies, dropped)


def begin_copies(registry: Registry, percent: int) -> str:
    """A shadow step that is under way; the rollout's id."""
    plan = RolloutPlan(steps=(step_from(f"shadow:{percent}"), step_from(100)))
    rollout = registry.rollouts.start("support", 2, plan, "load")
    return registry.rollouts.move(rollout.id, rollout.state, RolloutState.PROGRESSING, reason="measured").id


def shadow_requests(registry: Registry, rollout_id: str) -> int:
    """How many copies were answered."""
    cells = registry.observations.of_rollout(rollout_id)
    return sum(tally.requests for cell, tally in cells.items() if cell.side is Side.SHADOW_CANARY)


async def one_round(http: httpx2.AsyncClient, args: argparse.Namespace, source: random.Random) -> list[Seen]:
    """What every client saw of its requests."""

    async def client() -> list[Seen]:
        found = []
        for _ in range(args.requests):
            if args.pause_s:
                await asyncio.sleep(source.expovariate(1 / args.pause_s))
            began = perf_counter()
            first = await stream(http, {"model": "support"}, " ".join(source.choices(WORDS, k=30)), args.tokens)
            found.append(Seen(first_token_s=first, total_s=perf_counter() - began))
        return found

    return list(chain.from_iterable(await asyncio.gather(*(client() for _ in range(args.clients)))))


def show(seen: dict[bool, list[Seen]], copies: int, dropped: list[str]) -> None:
    """A row for each figure: without copies, with them, and the ratio."""
    lines = [f"{len(seen[False])} requests without, {len(seen[True])} with a shadow step; {copies} copies; {dropped}"]
    kinds = [seen[False], seen[True]]
    firsts = [[one.first_token_s for one in kind] for kind in kinds]
    totals = [[one.total_s for one in kind] for kind in kinds]
    figures = {
        "first token, median s": [statistics.median(kind) for kind in firsts],
        "whole answer, median s": [statistics.median(kind) for kind in totals],
        "whole answer, mean s": [statistics.fmean(kind) for kind in totals],
        "whole answer, p95 s": [statistics.quantiles(kind, n=20)[-1] for kind in totals],
    }
    lines += [f"{name:24} {off:8.3f} {on:8.3f}   ratio {on / off:.2f}" for name, (off, on) in figures.items()]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
