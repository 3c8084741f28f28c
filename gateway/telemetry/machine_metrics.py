"""Prometheus metrics of the machine's disks, and of whether this process reaches the registry."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class DiskMetrics(Collector):
    """Shows the room of the disks below *folders* (label -> folder) whenever it is asked."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = folders

    def collect(self) -> Iterator[Metric]:
        """Yield the size and the free room of the disk of each folder that is there."""
        size = GaugeMetricFamily("gateway_disk_size_bytes", "Size of the disk of a folder", labels=["folder"])
        free = GaugeMetricFamily("gateway_disk_free_bytes", "Free room on the disk of a folder", labels=["folder"])
        for name, folder in self._folders.items():
            if folder.exists():
                room = shutil.disk_usage(folder)
                size.add_metric([name], room.total)
                free.add_metric([name], room.free)
        yield size
        yield free


class RegistryReach(Collector):
    """Shows whether the registry answered the scrape's own reading."""

    def __init__(self) -> None:
        self.is_reached = True

    def collect(self) -> Iterator[Metric]:
        """Yield 1 or 0."""
        up = GaugeMetricFamily("gateway_registry_up", "1 if the registry answered the gateway that was scraped, else 0")
        up.add_metric([], float(self.is_reached))
        yield up
