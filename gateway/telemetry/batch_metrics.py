"""Prometheus metrics of batches: lines of this process, states from the registry."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from registry.batches.batch import BatchFigures


class BatchMetrics:
    """The counts of one process."""

    def __init__(self, collector: CollectorRegistry) -> None:
        self.lines = Counter(
            "gateway_batch_lines",
            "Lines of batches: answered, refused (an error is their result), or sent again",
            ["result"],
            registry=collector,
        )


class BatchStates(Collector):
    """Shows the latest `figures`, which are the same at every gateway: take `max` over gateways, never `sum`."""

    def __init__(self) -> None:
        self.figures = BatchFigures(states={}, unanswered=0)

    def collect(self) -> Iterator[Metric]:
        """Yield the number of batches in each state, and of lines that wait."""
        states = GaugeMetricFamily("gateway_batches", "Batches ever created, by their state now", labels=["state"])
        for state, count in self.figures.states.items():
            states.add_metric([state], count)
        yield states
        waiting = GaugeMetricFamily("gateway_batch_lines_unanswered", "Lines of open batches without a result")
        waiting.add_metric([], self.figures.unanswered)
        yield waiting
