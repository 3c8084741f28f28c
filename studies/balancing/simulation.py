"""`python -m studies.balancing.simulation`: how often prompts meet their prefix cache, and how long requests wait.

A pool of replicas, each with places in a batch, a queue for them, and a cache of prefixes that drops the least
recently used one. Requests arrive at random (Poisson) for adapters and prefixes by Zipf's law, and each begins with a
prefix that others share. A replica first computes a prefix that its cache lacks.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Final

import numpy as np
import orjson
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from gateway.balancing.balancing import Balancer
from gateway.balancing.replica_health import ReplicaHealth
from gateway.routing.routing import Endpoint
from studies.balancing.requests import Crowd, Request, requests_of

LOADS: Final = (0.3, 0.6, 0.9, 1.1, 1.3, 1.5, 1.7)
"""Offered load: 1 is the capacity of the pool if no prompt ever found its prefix in a cache."""
SERVED_NAME: Final = "support@1"
BOUNDS: Final = (1.05, 1.1, 1.25, 1.5, 2.0, 4.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOutcome:
    """The results of one policy at one load."""

    policy: str
    load: float
    load_bound: float | None
    hits: float
    """Share of the requests that found their prefix in the cache."""
    wait_p50_s: float
    wait_p99_s: float
    """Seconds in a replica's queue."""
    first_token_p50_s: float
    first_token_p99_s: float
    """Seconds in the queue and to compute the prompt."""
    highest: float
    """The most requests of one replica as a multiple of the average at that moment; 99th percentile."""


Choice = Callable[[Request], int]
"""A policy: chooses the number of the replica for a request."""


@dataclass(slots=True)
class SimulatedReplica:
    """The cache, the batch and the queue of one replica."""

    kept: OrderedDict[int, None] = field(default_factory=OrderedDict)
    running: int = 0
    queue: deque[Request] = field(default_factory=deque)

    def meets(self, prefix: int, room: int) -> bool:
        """Put the prefix into the cache, and return whether it was there."""
        met = prefix in self.kept
        self.kept[prefix] = None
        self.kept.move_to_end(prefix)
        if len(self.kept) > room:
            self.kept.popitem(last=False)
        return met


class SimulatedPool:
    """Replicas in simulated time, with the measurements of all requests."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.in_flight = [0] * crowd.replicas
        self.ended: Callable[[int], None] = lambda _: None
        self.hits: list[bool] = []
        self.waits: list[float] = []
        self.first_tokens: list[float] = []
        self._places = [SimulatedReplica() for _ in range(crowd.replicas)]
        self._ends: list[tuple[float, int]] = []

    def run_until(self, now: float) -> None:
        """End the requests that end before *now*, and start waiting ones in their places."""
        while self._ends and self._ends[0][0] <= now:
            at, number = heapq.heappop(self._ends)
            self.in_flight[number] -= 1
            self.ended(number)
            place = self._places[number]
            place.running -= 1
            if place.queue:
                self._start(place, number, place.queue.popleft(), at)

    def send(self, number: int, request: Request) -> None:
        """Send *request* to the replica *number*."""
        self.in_flight[number] += 1
        place = self._places[number]
        if place.running < self.crowd.places:
            self._start(place, number, request, request.at)
        else:
            place.queue.append(request)

    def _start(self, place: SimulatedReplica, number: int, request: Request, now: float) -> None:
        place.running += 1
        met = place.meets(request.prefix, self.crowd.kept_prefixes)
        prompt_s = self.crowd.rest_s + (0.0 if met else self.crowd.prefix_s)
        self.hits.append(met)
        self.waits.append(now - request.at)
        self.first_tokens.append(now - request.at + prompt_s)
        heapq.heappush(self._ends, (now + prompt_s + request.answer_s, number))


def affinity_choice(bound: float) -> Callable[[SimulatedPool], Choice]:
    """Return the policy of the gateway's own balancer."""

    def begin(pool: SimulatedPool) -> Choice:
        endpoints = tuple(_endpoint(number) for number in range(pool.crowd.replicas))
        numbers = {endpoint.replica: number for number, endpoint in enumerate(endpoints)}
        balancer = Balancer(ReplicaHealth(), bound)
        pool.ended = lambda number: balancer.end(endpoints[number].replica, SERVED_NAME)

        def choose(request: Request) -> int:
            found = balancer.choose(endpoints, request.affinity, (), request.at)
            replica = endpoints[0].replica if found is None else found.replica
            balancer.begin(replica, SERVED_NAME)
            return numbers[replica]

        return choose

    return begin


def round_robin(pool: SimulatedPool) -> Choice:
    """Choose each replica in turn."""
    turn = iter(range(pool.crowd.requests))
    return lambda _: next(turn) % pool.crowd.replicas


def at_random(pool: SimulatedPool) -> Choice:
    """Choose a replica at random."""
    numbers = np.random.default_rng([pool.crowd.seed, 2]).integers(pool.crowd.replicas, size=pool.crowd.requests)
    drawn = iter(numbers.tolist())
    return lambda _: next(drawn)


def least_loaded(pool: SimulatedPool) -> Choice:
    """Choose a replica with the fewest requests, in turn among equals."""
    turn = iter(range(pool.crowd.requests))

    def choose(_: Request) -> int:
        first, count = next(turn), pool.crowd.replicas
        return min(range(count), key=lambda number: (pool.in_flight[number], (number - first) % count))

    return choose


POLICIES: Final[dict[str, Callable[[SimulatedPool], Choice]]] = {
    "affinity, bounded": affinity_choice(1.25),
    "affinity alone": affinity_choice(inf),
    "least loaded": least_loaded,
    "round robin": round_robin,
    "random": at_random,
}


def simulate(crowd: Crowd, policy: str, bound: float | None = None) -> PolicyOutcome:
    """Send the requests of *crowd* by one policy; equal crowds send equal requests."""
    pool = SimulatedPool(crowd)
    choose = POLICIES[policy](pool) if bound is None else affinity_choice(bound)(pool)
    peaks = []
    for count, request in enumerate(requests_of(crowd)):
        pool.run_until(request.at)
        pool.send(choose(request), request)
        if count % 50 == 0:
            peaks.append(max(pool.in_flight) * crowd.replicas / max(1, sum(pool.in_flight)))
    pool.run_until(inf)
    first = crowd.requests // 4
    waits, tokens = np.array(pool.waits[first:]), np.array(pool.first_tokens[first:])
    return PolicyOutcome(
        policy=policy,
        load=crowd.load,
        load_bound=bound,
        hits=float(np.mean(pool.hits[first:])),
        wait_p50_s=float(np.quantile(waits, 0.5)),
        wait_p99_s=float(np.quantile(waits, 0.99)),
        first_token_p50_s=float(np.quantile(tokens, 0.5)),
        first_token_p99_s=float(np.quantile(tokens, 0.99)),
        highest=float(np.quantile(peaks[len(peaks) // 4 :], 0.99)),
    )


def run(
    requests: int = typer.Option(40_000, min=1_000, help="Simulated requests of each case."),
    seed: int = typer.Option(1, help="The same seed gives the same numbers."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of tables."),
    plots: Path | None = typer.Option(None, help="Write the plots into this folder (needs matplotlib)."),
) -> None:
    """Simulate 100 replicas and 1,000 adapters with five policies, and ours with several bounds of load."""
    crowd = Crowd(requests=requests, seed=seed)
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("simulating", total=len(LOADS) * len(POLICIES) + len(BOUNDS))
        outcomes, bounds = [], []
        for load in LOADS:
            for policy in POLICIES:
                outcomes.append(simulate(replace(crowd, load=load), policy))
                progress.advance(bar)
        for bound in BOUNDS:
            bounds.append(simulate(replace(crowd, load=0.9), "affinity, bounded", bound))
            progress.advance(bar)
    if plots is not None:
        from studies.balancing.plots import write_plots

        write_plots(plots, outcomes)
    if as_json:
        both = {"policies": [asdict(each) for each in outcomes], "bounds": [asdict(each) for each in bounds]}
        typer.echo(orjson.dumps(both, option=orjson.OPT_INDENT_2).decode())
        return
    console = Console()
    console.print(_table("Policies", "load", [(f"{each.load:.1f}", each) for each in outcomes]))
    console.print(_table("Bounds at load 0.9", "bound", [(f"{each.load_bound}", each) for each in bounds]))


def _table(title: str, first: str, rows: list[tuple[str, PolicyOutcome]]) -> Table:
    table = Table(title=title)
    for heading in (first, "policy", "prefix met", "wait p50", "wait p99", "first token p50", "p99", "highest load"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    for name, each in rows:
        table.add_row(
            name, each.policy, f"{each.hits:.1%}", f"{each.wait_p50_s:.2f} s", f"{each.wait_p99_s:.2f} s",
            f"{each.first_token_p50_s:.2f} s", f"{each.first_token_p99_s:.2f} s", f"{each.highest:.2f} x",
        )  # fmt: skip
    return table


def _endpoint(number: int) -> Endpoint:
    return Endpoint(replica=f"replica-{number}", url="", base="base", engine="vllm", served_names=frozenset())


if __name__ == "__main__":
    typer.run(run)
