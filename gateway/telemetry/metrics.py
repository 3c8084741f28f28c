"""All Prometheus metrics of one gateway process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.registry import Collector

from gateway.telemetry.batch_metrics import BatchMetrics, BatchStates
from gateway.telemetry.cache_metrics import CacheMetrics
from gateway.telemetry.evaluation_metrics import EvaluationMetrics
from gateway.telemetry.finished_metrics import FinishedMetrics
from gateway.telemetry.job_metrics import JobMetrics
from gateway.telemetry.loop_metrics import LoopMetrics, PartMetrics
from gateway.telemetry.machine_metrics import DiskMetrics, RegistryReach
from gateway.telemetry.move_metrics import MoveMetrics
from gateway.telemetry.rollout_metrics import RolloutMetrics
from registry.artifacts import ArtifactStore


class GatewayMetrics:
    """The process's metrics in a collector registry of its own; label values are bounded by what exists."""

    def __init__(self, most_names: int = 1000) -> None:
        self._collector = CollectorRegistry()
        self._shared = CollectorRegistry()
        self.finished = FinishedMetrics(most_names)
        self._collector.register(self.finished)
        self.rate_limited = Counter(
            "gateway_rate_limited",
            "Requests refused because their API key had used up one of its limits",
            ["key"],
            registry=self._collector,
        )
        self.limited_alone = Counter(
            "gateway_limited_alone",
            "Requests that this gateway counted alone because Redis did not answer",
            registry=self._collector,
        )
        self.response_stores = Counter(
            "gateway_response_stores",
            "Attempts to store a response before its last byte, and how they ended",
            ["outcome"],
            registry=self._collector,
        )
        self.rollouts = RolloutMetrics(self._collector)
        self.batches = BatchMetrics(self._collector)
        self.evaluations = EvaluationMetrics(self._collector)
        self.moves = MoveMetrics()
        self._shared.register(self.moves)
        self.batch_states = BatchStates()
        self._shared.register(self.batch_states)
        self.jobs = JobMetrics()
        self._shared.register(self.jobs)
        self.registry_reach = RegistryReach()
        self._shared.register(self.registry_reach)

    def show(self, own: Collector, shared: Collector) -> None:
        """Add the families of *own* to this process's, those of *shared* to what every process shows alike."""
        self._collector.register(own)
        self._shared.register(shared)

    def show_background(self, loops: LoopMetrics, home: Path | None, artifacts: ArtifactStore) -> None:
        """Add the families of this process's *loops*, of the parts without a port in *home*, and of disks."""
        self._collector.register(loops)
        folders = {"artifacts": artifacts.disk}
        if artifacts.cache is not None:
            self._shared.register(CacheMetrics(artifacts.cache))
        if home is not None:
            folders["home"] = home
            self._shared.register(PartMetrics(home))
        self._shared.register(DiskMetrics(folders))

    def own(self, exists: Callable[[str], bool]) -> str:
        """Return this process's metrics as Prometheus' text, without served names for which *exists* is false."""
        self.finished.forget_unless(exists)
        return generate_latest(self._collector).decode()

    def shared(self) -> str:
        """Return the metrics that are the same in every process: those of the registry and of the machine."""
        return generate_latest(self._shared).decode()
