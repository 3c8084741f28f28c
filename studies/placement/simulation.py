"""`python -m studies.placement.simulation`: where adapters are loaded, by the product's placement and by simpler ways.

Requests arrive at random (Poisson) for adapters by Zipf's law. A replica has places for adapters, loads one at a time,
and answers any number of requests at once. A replica leaves near the end, and an empty one joins a minute later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Final, Protocol

import orjson
import typer
from rich.console import Console
from rich.table import Table

from studies.placement.crowd import AdapterRequest, FleetCase, adapter_requests
from studies.placement.fleet import Fleet
from studies.placement.on_demand import ByHash, Everywhere, LeastLoaded
from studies.placement.product import Placed

PLACES: Final = (64, 32, 16)


class LoadingPolicy(Protocol):
    """A way to decide where adapters are loaded."""

    def arrive(self, request: AdapterRequest) -> bool:
        """Take a request; return whether its adapter was loaded where it goes."""
        ...

    def changed(self) -> None:
        """Take note that a replica left or joined."""
        ...


LOADING_POLICIES: Final[dict[str, Callable[[Fleet], LoadingPolicy]]] = {
    "Lorry": Placed,
    "LRU by hash, bounded": lambda fleet: ByHash(fleet, 1.25),
    "LRU by hash": ByHash,
    "LRU, least loaded": LeastLoaded,
    "all everywhere": Everywhere,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadingOutcome:
    """The results of one policy with so many places."""

    policy: str
    places: int
    seed: int
    found: float
    """Share of the requests whose adapter was loaded where they went."""
    loads_per_h: float
    largest_load: float
    """Requests in flight of the busiest replica on average, over the mean of all replicas."""
    loads_after_leave: float
    """Loads within a minute of a replica's end, beyond those of any minute."""
    loads_after_join: float


def simulate_loading(case: FleetCase, policy: str) -> LoadingOutcome:
    """Send the requests of *case* by one policy; equal cases send equal requests."""
    fleet = Fleet(case)
    chosen = LOADING_POLICIES[policy](fleet)
    left, joined = case.warm_s + case.counted_s, case.warm_s + case.counted_s + case.change_s
    largest = 0.0

    def leave() -> None:
        nonlocal largest
        largest = fleet.largest_load()
        fleet.leave(case.seed % case.replicas)
        chosen.changed()

    def join() -> None:
        fleet.join()
        chosen.changed()

    fleet.at(left, leave)
    fleet.at(joined, join)
    found = []
    for request in adapter_requests(case):
        if request.at >= case.ends_s:
            break
        fleet.run_until(request.at)
        is_found = chosen.arrive(request)
        if case.warm_s <= request.at < left:
            found.append(is_found)
    fleet.run_until(case.ends_s)
    usual = fleet.loads_between(case.warm_s, left) / case.counted_s
    return LoadingOutcome(
        policy=policy,
        places=case.places,
        seed=case.seed,
        found=mean(found),
        loads_per_h=3600 * usual,
        largest_load=largest,
        loads_after_leave=fleet.loads_between(left, joined) - usual * case.change_s,
        loads_after_join=fleet.loads_between(joined, case.ends_s) - usual * case.change_s,
    )


def run(
    seeds: int = typer.Option(3, min=1, help="How many seeds: each has other popular adapters and other requests."),
    policies: str = typer.Option("", help="Some of the policies, with semicolons between them."),
    places: str = typer.Option(",".join(map(str, PLACES)), help="Places of a replica, with commas between them."),
    json: Path | None = typer.Option(None, help="Add each outcome to this file, a line each."),
) -> None:
    """Simulate 1,000 adapters on 50 replicas."""
    outcomes = []
    names = policies.split(";") if policies else list(LOADING_POLICIES)
    for count, policy, seed in product(map(int, places.split(",")), names, range(1, seeds + 1)):
        outcomes.append(simulate_loading(FleetCase(places=count, seed=seed), policy))
        if json is not None:
            with json.open("ab") as lines:
                lines.write(orjson.dumps(asdict(outcomes[-1])) + b"\n")
    Console(width=120).print(table_of(outcomes))


def table_of(outcomes: Iterable[LoadingOutcome]) -> Table:
    """Return the means over the seeds, and the largest of the largest loads."""
    table = Table()
    for heading in (
        "places",
        "policy",
        "found loaded",
        "loads an hour",
        "largest load",
        "after a leave",
        "after a join",
    ):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    groups: dict[tuple[int, str], list[LoadingOutcome]] = {}
    for each in outcomes:
        groups.setdefault((each.places, each.policy), []).append(each)
    for (places, policy), group in groups.items():
        table.add_row(
            str(places),
            policy,
            f"{mean(each.found for each in group):.2%}",
            f"{mean(each.loads_per_h for each in group):,.0f}",
            f"{max(each.largest_load for each in group):.2f} x",
            f"{mean(each.loads_after_leave for each in group):,.0f}",
            f"{mean(each.loads_after_join for each in group):,.0f}",
        )
    return table


if __name__ == "__main__":
    typer.run(run)
