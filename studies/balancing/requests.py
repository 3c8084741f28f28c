"""The requests of a simulated crowd: when each arrives, its prefix, and how long its answer takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gateway.balancing.balancing import affinity_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """A simulated pool and its traffic."""

    replicas: int = 100
    places: int = 16
    """Requests that a replica works on at a time."""
    kept_prefixes: int = 64
    """Prefixes that the cache of a replica holds."""
    adapters: int = 1_000
    prefixes: int = 4
    """Shared beginnings of prompts, such as system prompts, for each adapter."""
    zipf: float = 1.0
    """Exponent: the n-th most popular adapter gets n**-zipf times the requests of the first; prefixes likewise."""
    prefix_s: float = 1.0
    """Seconds to compute a prefix that is not in the cache."""
    rest_s: float = 0.05
    """Seconds to compute the rest of a prompt."""
    answer_s: float = 1.0
    """Mean seconds to generate an answer; exponentially distributed."""
    load: float = 0.8
    requests: int = 40_000
    """All requests; the first quarter fills the caches and is not counted."""
    seed: int = 1

    @property
    def per_s(self) -> float:
        """Requests a second."""
        return self.load * self.replicas * self.places / (self.prefix_s + self.rest_s + self.answer_s)


@dataclass(frozen=True, slots=True)
class Request:
    """A simulated request."""

    at: float
    prefix: int
    affinity: int
    answer_s: float


def requests_of(crowd: Crowd) -> list[Request]:
    """Return the requests of *crowd* in order of arrival."""
    rng = np.random.default_rng([crowd.seed, 1])
    at = np.cumsum(rng.exponential(1.0 / crowd.per_s, crowd.requests))
    adapters = rng.choice(crowd.adapters, crowd.requests, p=_zipf(crowd.adapters, crowd.zipf))
    begins = rng.choice(crowd.prefixes, crowd.requests, p=_zipf(crowd.prefixes, crowd.zipf))
    prefixes = (adapters * crowd.prefixes + begins).tolist()
    places = {prefix: affinity_of(f"adapter-{prefix // crowd.prefixes}@1", b"%d" % prefix) for prefix in set(prefixes)}
    answers = rng.exponential(crowd.answer_s, crowd.requests).tolist()
    drawn = zip(at.tolist(), prefixes, answers, strict=True)
    return [Request(when, prefix, places[prefix], answer_s) for when, prefix, answer_s in drawn]


def _zipf(count: int, exponent: float) -> list[float]:
    weights = [number**-exponent for number in range(1, count + 1)]
    total = sum(weights)
    return [weight / total for weight in weights]
