"""How many replicas a pool should have. Serve calls it with what the replicas' engines say; it imports no Ray."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any, Final, Protocol

REQUESTS: Final = "requests"
"""Name under which replicas tell how many requests run or wait in their engines."""


class ScalingContext(Protocol):
    """The part of Serve's `AutoscalingContext` that is looked at."""

    target_num_replicas: int
    capacity_adjusted_min_replicas: int
    capacity_adjusted_max_replicas: int

    @property
    def aggregated_metrics(self) -> Mapping[str, Mapping[Any, float]] | None:
        """Metric -> replica -> its mean over the last seconds."""
        ...


def desired_replicas(requests: float, target: float, least: int, most: int) -> int:
    """As many replicas as *requests* (running and waiting, over all of them) need for *target* each, within bounds."""
    return max(least, min(most, ceil(requests / target)))


class FollowRequests:
    """An autoscaling policy of Serve; delays and bounds are Serve's."""

    def __init__(self, target_requests: float) -> None:
        self._target = target_requests

    def __call__(self, context: ScalingContext) -> tuple[int, dict[str, Any]]:
        """The number of replicas; as it is while no replica has said anything."""
        told = (context.aggregated_metrics or {}).get(REQUESTS)
        if not told:
            return context.target_num_replicas, {}
        least, most = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
        return desired_replicas(sum(told.values()), self._target, least, most), {}
