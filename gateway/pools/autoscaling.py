"""The number of replicas that a pool should have. Serve calls it with the engines' loads; it imports no Ray."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any, Final, Protocol

REQUESTS: Final = "requests"
"""Name of the metric by which replicas report how many requests run or wait in their engines."""


class ScalingContext(Protocol):
    """The part of Serve's `AutoscalingContext` that the policy uses."""

    target_num_replicas: int
    capacity_adjusted_min_replicas: int
    capacity_adjusted_max_replicas: int

    @property
    def aggregated_metrics(self) -> Mapping[str, Mapping[Any, float]] | None:
        """Return metric -> replica -> its mean over the last seconds."""
        ...


_NEEDED: Final = 0.001
"""Requests that a replica reports which has none and is needed: enough for one replica, and never for a second."""


def reported_load(load: int, *, is_needed: bool) -> float:
    """Return the requests that a replica reports: more than none while something else needs the pool."""
    return max(float(load), _NEEDED if is_needed else 0.0)


def desired_replicas(requests: float, target: float, least: int, most: int) -> int:
    """Return how many replicas *requests* (running and waiting, over all) need at *target* each, within bounds."""
    return max(least, min(most, ceil(requests / target)))


class FollowRequests:
    """An autoscaling policy of Serve; delays and bounds are Serve's."""

    def __init__(self, target_requests: float) -> None:
        self._target = target_requests

    def __call__(self, context: ScalingContext) -> tuple[int, dict[str, Any]]:
        """Return the number of replicas; the present one while no replica has reported."""
        reported = (context.aggregated_metrics or {}).get(REQUESTS)
        if not reported:
            return context.target_num_replicas, {}
        least, most = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
        return desired_replicas(sum(reported.values()), self._target, least, most), {}
