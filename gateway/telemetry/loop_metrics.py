"""Prometheus metrics of what runs in the background: loops of a gateway process, and parts without a port."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engines.loops import Loops
from registry.disk import all_beats


class LoopMetrics(Collector):
    """Shows how often each loop was begun again, which are down, and when the keys were read last."""

    def __init__(self, loops: Loops, keys_read_at: Callable[[], float]) -> None:
        self._loops = loops
        self._keys_read_at = keys_read_at

    def collect(self) -> Iterator[Metric]:
        """Yield the families as they are now."""
        down = self._loops.down()
        restarts = CounterMetricFamily(
            "gateway_loop_restarts", "Times that a background loop was begun again after an error", labels=["loop"]
        )
        runs = GaugeMetricFamily(
            "gateway_loop_up", "1 while a background loop runs, 0 while it is down", labels=["loop"]
        )
        for name, count in self._loops.restarts.items():
            restarts.add_metric([name], count)
            runs.add_metric([name], float(name not in down))
        yield restarts
        yield runs
        read_at = GaugeMetricFamily("gateway_keys_timestamp_seconds", "When the registry was last read for API keys")
        read_at.add_metric([], self._keys_read_at())
        yield read_at


class PartMetrics(Collector):
    """Shows when the controller and the trainer of this machine were last seen at work."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def collect(self) -> Iterator[Metric]:
        """Yield the time of each part's last beat."""
        beats = GaugeMetricFamily(
            "gateway_part_timestamp_seconds", "When a part without a port was last seen at work", labels=["part"]
        )
        for part, at in all_beats(self._home).items():
            beats.add_metric([part], at)
        yield beats
