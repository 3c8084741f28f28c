"""Prometheus metrics that are read from other objects of the gateway when it is scraped."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.balancing.admission import Admission
from gateway.balancing.balancing import Balancer
from gateway.balancing.replica_health import ReplicaHealth
from gateway.routing.route_feed import RouteFeed


class LiveMetrics(Collector):
    """Figures of the replicas in the present route table and of their pools; a removed replica has none.

    `look` must run on the event loop, which owns the objects that it reads; `collect` may run in any thread.
    """

    def __init__(self, feed: RouteFeed, balancer: Balancer, health: ReplicaHealth, admission: Admission) -> None:
        self._feed = feed
        self._balancer = balancer
        self._health = health
        self._admission = admission
        self._seen: tuple[Metric, ...] = ()
        self.look()

    def look(self) -> None:
        """Read the present figures."""
        in_flight = _gauge("requests_in_flight", "Inference requests being relayed", "replica", "pool")
        share = _gauge(
            "replica_share", "Share of its usual traffic that a replica gets, 0 if ejected", "replica", "pool"
        )
        ejections = CounterMetricFamily(
            "gateway_ejections", "Times that a replica was ejected because it failed", labels=["pool"]
        )
        queued = _gauge("queue_length", "Requests that wait for their turn", "pool")
        read_at = _gauge("route_table_timestamp_seconds", "When the registry was last read for routes")
        read_at.add_metric([], self._feed.read_at)
        table = self._feed.table
        lowered = self._health.shares(time.monotonic())
        for endpoint in table.endpoints:
            in_flight.add_metric([endpoint.replica, endpoint.pool], self._balancer.in_flight(endpoint.replica))
            share.add_metric([endpoint.replica, endpoint.pool], lowered.get(endpoint.replica, 1.0))
        for pool in table.request_places:
            ejections.add_metric([pool], self._health.ejections[pool])
        for pool in {*table.request_places, *(pool.name for pool in table.sleeping_pools)}:
            queued.add_metric([pool], self._admission.waiting(pool))
        self._seen = (read_at, in_flight, share, ejections, queued)

    def collect(self) -> Iterator[Metric]:
        """Yield the families as of the last `look`."""
        yield from self._seen


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"gateway_{name}", text, labels=labels)
