"""Prometheus metrics of evaluations that this process runs."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter


class EvaluationMetrics:
    """The counts of one process."""

    def __init__(self, collector: CollectorRegistry) -> None:
        self.rows = Counter(
            "gateway_evaluation_rows",
            "Rows of evaluations that were asked: passed, not_passed, or unanswered",
            ["result"],
            registry=collector,
        )
        self.ended = Counter(
            "gateway_evaluations_ended",
            "Evaluations that this gateway brought to their end: completed or failed",
            ["state"],
            registry=collector,
        )
