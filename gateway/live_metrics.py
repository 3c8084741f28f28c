"""Prometheus metrics of what is known elsewhere, read there and only when somebody asks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.replica_health import ReplicaHealth
from gateway.routing import RouteTable


class LiveMetrics(Collector):
    """Figures of the replicas in the present table, and of their pools; who leaves it leaves the metrics.

    `look` belongs to the event loop, as what it looks at does; `collect` shows what was seen, in any thread.
    """

    def __init__(self, table: Callable[[], RouteTable], in_flight: Callable[[str], int], health: ReplicaHealth) -> None:
        self._table = table
        self._in_flight = in_flight
        self._health = health
        self._seen: tuple[Metric, ...] = ()
        self.look()

    def look(self) -> None:
        """See how it is now."""
        in_flight = _gauge("requests_in_flight", "Inference requests being relayed", "replica", "pool")
        share = _gauge(
            "replica_share", "Part of its usual traffic that a replica gets, 0 if ejected", "replica", "pool"
        )
        ejections = CounterMetricFamily(
            "gateway_ejections", "Times that a replica was passed over because it failed", labels=["pool"]
        )
        lowered = self._health.shares(time.monotonic())
        endpoints = self._table().endpoints
        for endpoint in endpoints:
            in_flight.add_metric([endpoint.replica, endpoint.pool], self._in_flight(endpoint.replica))
            share.add_metric([endpoint.replica, endpoint.pool], lowered.get(endpoint.replica, 1.0))
        for pool in sorted({endpoint.pool for endpoint in endpoints}):
            ejections.add_metric([pool], self._health.ejections[pool])
        self._seen = (in_flight, share, ejections)

    def collect(self) -> Iterator[Metric]:
        """The families, without samples while there are no replicas."""
        yield from self._seen


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"gateway_{name}", text, labels=labels)
