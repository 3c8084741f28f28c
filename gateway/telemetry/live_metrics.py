"""Prometheus metrics of what is known elsewhere, read there and only when somebody asks."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.edge.parts import EdgeParts


class LiveMetrics(Collector):
    """Figures of the replicas in the present table, and of their pools; who leaves it leaves the metrics.

    `look` belongs to the event loop, as what it looks at does; `collect` shows what was seen, in any thread.
    """

    def __init__(self, parts: EdgeParts) -> None:
        self._parts = parts
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
        queued = _gauge("queue_length", "Requests that wait for their turn", "pool")
        parts, table = self._parts, self._parts.feed.table
        lowered = parts.health.shares(time.monotonic())
        for endpoint in table.endpoints:
            in_flight.add_metric([endpoint.replica, endpoint.pool], parts.balancer.in_flight(endpoint.replica))
            share.add_metric([endpoint.replica, endpoint.pool], lowered.get(endpoint.replica, 1.0))
        for pool in table.rooms:
            ejections.add_metric([pool], parts.health.ejections[pool])
            queued.add_metric([pool], parts.admission.waiting(pool))
        self._seen = (in_flight, share, ejections, queued)

    def collect(self) -> Iterator[Metric]:
        """The families, without samples while there are no replicas."""
        yield from self._seen


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"gateway_{name}", text, labels=labels)
