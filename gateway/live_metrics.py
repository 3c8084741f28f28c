"""Prometheus metrics of what is the case at the moment, read where it is known and only when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.routing import RouteTable


class LiveMetrics(Collector):
    """Gauges of the replicas in the present table; who leaves the table leaves the metrics."""

    def __init__(self, table: Callable[[], RouteTable], in_flight: Callable[[str], int]) -> None:
        self._table = table
        self._in_flight = in_flight

    def collect(self) -> Iterator[Metric]:
        """The gauges, without samples while there are no replicas."""
        in_flight = GaugeMetricFamily(
            "gateway_requests_in_flight", "Inference requests being relayed", labels=["replica", "pool"]
        )
        for endpoint in self._table().endpoints:
            in_flight.add_metric([endpoint.replica, endpoint.pool], self._in_flight(endpoint.replica))
        yield in_flight
