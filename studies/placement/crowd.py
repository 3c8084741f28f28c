"""A simulated fleet's size and traffic, and the requests that follow from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetCase:
    """The size of a fleet, its traffic, and what happens to it."""

    replicas: int = 50
    places: int = 32
    """Adapters that a replica holds."""
    adapters: int = 1_000
    zipf: float = 1.0
    """Exponent: the n-th most popular adapter gets n**-zipf times the requests of the first."""
    per_s: float = 100.0
    """Requests a second over all gateways, at random times."""
    answer_s: float = 4.0
    """Mean seconds of an answer; exponentially distributed."""
    load_s: float = 1.0
    """Seconds to load and prove an adapter; a replica loads one at a time."""
    gateways: int = 2
    warm_s: float = 300.0
    """Simulated seconds before anything is counted."""
    counted_s: float = 300.0
    """Simulated seconds that are counted while all replicas are there."""
    change_s: float = 60.0
    """Simulated seconds after a replica left, and again after one joined, whose loads are compared with usual ones."""
    seed: int = 1

    @property
    def ends_s(self) -> float:
        """When the simulation ends."""
        return self.warm_s + self.counted_s + 2 * self.change_s


class AdapterRequest(NamedTuple):
    """A simulated request."""

    at: float
    adapter: int
    gateway: int
    answer_s: float


def adapter_requests(case: FleetCase) -> Iterator[AdapterRequest]:
    """Yield the requests of a case in order of arrival; equal cases yield equal requests."""
    rng = np.random.default_rng([case.seed, 3])
    count = int(case.per_s * case.ends_s)
    at = np.cumsum(rng.exponential(1.0 / case.per_s, count))
    weights = np.arange(1, case.adapters + 1, dtype=np.float64) ** -case.zipf
    # Which adapters are the popular ones changes with the seed, and with it where their names hash to.
    popular = rng.permutation(case.adapters)
    adapters = popular[rng.choice(case.adapters, count, p=weights / weights.sum())]
    gateways = rng.integers(case.gateways, size=count)
    answers = rng.exponential(case.answer_s, count)
    drawn = zip(at.tolist(), adapters.tolist(), gateways.tolist(), answers.tolist(), strict=True)
    return (AdapterRequest(*each) for each in drawn)
