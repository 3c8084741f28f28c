"""Prometheus metrics of the moves of rollouts, read from the registry, which stores them all."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from registry.rollouts.rollout import RolloutFigures
from registry.rollouts.rollout_state import RolloutState


class MoveMetrics(Collector):
    """Shows the latest `figures`, which are the same at every gateway: take `max` over gateways, never `sum`."""

    def __init__(self) -> None:
        self.figures = RolloutFigures(moves={}, latest=())

    def collect(self) -> Iterator[Metric]:
        """Yield the counts of all moves, and the state of the latest rollout of each adapter."""
        moves = CounterMetricFamily(
            "gateway_rollout_moves",
            "Moves of all rollouts ever, from the registry; the same at every gateway",
            labels=["adapter", "state", "reason"],
        )
        for labels, count in self.figures.moves.items():
            moves.add_metric(labels, count)
        yield moves
        states = GaugeMetricFamily(
            "gateway_rollout_state", "1 for the state of the adapter's latest rollout", labels=["adapter", "state"]
        )
        weights = GaugeMetricFamily(
            "gateway_rollout_canary_weight", "Percent of conversations that the canary answers", labels=["adapter"]
        )
        for rollout in self.figures.latest:
            weights.add_metric([rollout.adapter], rollout.canary_weight)
            for state in RolloutState:
                states.add_metric([rollout.adapter, state], float(rollout.state is state))
        yield states
        yield weights
