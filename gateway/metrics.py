"""Prometheus metrics of one gateway process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from gateway.move_metrics import MoveMetrics
from gateway.rollout_metrics import RolloutMetrics


class GatewayMetrics:
    """The gateway's figures in a collector registry of their own; label sets are bounded by what exists."""

    def __init__(self) -> None:
        self._collector = CollectorRegistry()
        self.requests = Counter(
            "gateway_requests",
            "Inference requests by served name and HTTP status; an empty served name was never resolved",
            ["served_name", "status"],
            registry=self._collector,
        )
        self.in_flight = Gauge(
            "gateway_requests_in_flight", "Inference requests being relayed", ["replica"], registry=self._collector
        )
        self.first_byte = Histogram(
            "gateway_first_byte_seconds",
            "From the request's arrival to the engine's first byte",
            ["served_name"],
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=self._collector,
        )
        self.retries = Counter(
            "gateway_retries",
            "Requests sent again because a replica failed before its first byte",
            registry=self._collector,
        )
        self.broken_streams = Counter(
            "gateway_broken_streams", "Answers that ended with an error event", ["replica"], registry=self._collector
        )
        self.rate_limited = Counter(
            "gateway_rate_limited",
            "Requests that were refused because their key had used up one of its limits",
            ["key"],
            registry=self._collector,
        )
        self.limited_alone = Counter(
            "gateway_limited_alone",
            "Requests that this gateway counted alone because Redis did not answer",
            registry=self._collector,
        )
        self.route_table_time = Gauge(
            "gateway_route_table_timestamp_seconds",
            "When the registry was last read for routes",
            registry=self._collector,
        )
        self.rollouts = RolloutMetrics(self._collector)
        self.moves = MoveMetrics()
        self._collector.register(self.moves)

    def render(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._collector)
