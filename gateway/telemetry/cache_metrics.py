"""Prometheus metrics of this machine's copies of the artifacts in a bucket, whichever process read them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from registry.artifacts import Copies
from registry.stores.cache_figures import read_figures

_COUNTERS: Final = {
    "hits": ("gateway_artifact_cache_hits", "Reads of an artifact of which this machine had a copy"),
    "misses": ("gateway_artifact_cache_misses", "Reads of an artifact that was fetched from the bucket"),
    "fetched_bytes": ("gateway_artifact_cache_fetched_bytes", "Bytes of the artifacts that were fetched"),
    "evictions": ("gateway_artifact_cache_evictions", "Copies that were removed to make room"),
    "evicted_bytes": ("gateway_artifact_cache_evicted_bytes", "Bytes of the copies that were removed to make room"),
}


class CacheMetrics(Collector):
    """Shows the figures of *cache* whenever it is asked."""

    def __init__(self, cache: Copies) -> None:
        self._cache = cache

    def collect(self) -> Iterator[Metric]:
        """Yield the counts of all processes on this machine, the bytes in use and their limit."""
        figures = read_figures(self._cache.root)
        for field, (name, text) in _COUNTERS.items():
            family = CounterMetricFamily(name, text)
            family.add_metric([], getattr(figures, field))
            yield family
        used = GaugeMetricFamily("gateway_artifact_cache_bytes", "Bytes of the copies on this machine")
        used.add_metric([], self._cache.used_bytes())
        yield used
        limit = GaugeMetricFamily("gateway_artifact_cache_limit_bytes", "How many bytes the copies may take")
        limit.add_metric([], self._cache.limit_bytes)
        yield limit
