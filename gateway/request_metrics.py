"""Counts finished requests for Prometheus."""

from __future__ import annotations

from gateway.edge.finished import Finished
from gateway.metrics import GatewayMetrics


class RequestMetrics:
    """A `FinishedListener`."""

    def __init__(self, metrics: GatewayMetrics) -> None:
        self._metrics = metrics

    def finished(self, facts: Finished) -> None:
        """Count the request."""
        self._metrics.requests.labels(facts.served_name, str(facts.status)).inc()
        if facts.first_byte_at is not None:
            self._metrics.first_byte.labels(facts.served_name).observe(facts.first_byte_at - facts.began)
        if facts.retries:
            self._metrics.retries.inc(facts.retries)
        if facts.reason == "broken":
            self._metrics.broken_streams.labels(facts.replica).inc()
