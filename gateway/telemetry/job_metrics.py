"""Prometheus metrics of jobs and of the trainer's workers, read from the registry."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from registry.jobs.job_figures import NO_JOBS, JobFigures
from registry.jobs.job_state import JobState


class JobMetrics(Collector):
    """Shows the latest `figures`, which are the same at every gateway: take `max` over gateways, never `sum`."""

    def __init__(self) -> None:
        self.figures: JobFigures = NO_JOBS

    def collect(self) -> Iterator[Metric]:
        """Yield the counts of jobs, the wait of the queue, and each running job and worker."""
        yield from self._counts()
        yield from self._running()
        yield from self._workers()

    def _counts(self) -> Iterator[Metric]:
        states = GaugeMetricFamily("gateway_jobs", "Jobs ever created, by their state now", labels=["state"])
        for state in JobState:
            states.add_metric([state], self.figures.states.get(state, 0))
        yield states
        failures = CounterMetricFamily("gateway_job_failures", "Failed jobs by the code of the error", labels=["code"])
        for code, count in self.figures.failures.items():
            failures.add_metric([code], count)
        yield failures
        waiting = GaugeMetricFamily(
            "gateway_job_waiting_since_timestamp_seconds", "Since when the job waits that waits longest for a worker"
        )
        if self.figures.waiting_since is not None:
            waiting.add_metric([], self.figures.waiting_since)
        yield waiting

    def _running(self) -> Iterator[Metric]:
        tokens = GaugeMetricFamily(
            "gateway_running_job_trained_tokens", "Tokens that a running job has trained on", labels=["job", "method"]
        )
        ends = GaugeMetricFamily(
            "gateway_running_job_finish_timestamp_seconds", "When a running job is expected to end", labels=["job"]
        )
        for job in self.figures.running:
            tokens.add_metric([job.id, job.method], job.trained_tokens)
            if job.finish_at is not None:
                ends.add_metric([job.id], job.finish_at)
        yield tokens
        yield ends

    def _workers(self) -> Iterator[Metric]:
        places = GaugeMetricFamily("gateway_worker_places", "Jobs that a worker takes at once", labels=["worker"])
        total = GaugeMetricFamily(
            "gateway_worker_memory_bytes", "Memory of a worker's device for jobs", labels=["worker"]
        )
        free = GaugeMetricFamily(
            "gateway_worker_free_bytes", "Memory left beside the jobs that a worker holds", labels=["worker"]
        )
        for worker in self.figures.workers:
            places.add_metric([worker.name], worker.places)
            if worker.total_bytes is not None:
                total.add_metric([worker.name], worker.total_bytes)
            if worker.free_bytes is not None:
                free.add_metric([worker.name], worker.free_bytes)
        yield from (places, total, free)
