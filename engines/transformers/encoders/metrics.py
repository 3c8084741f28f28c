"""The metrics of a server that embeds or ranks."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class EncoderMetrics:
    """Metrics of one server, in a registry of their own; safe to use from several threads."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._running = Gauge(
            "engine_requests_running", "Requests with a text in the pass that runs", registry=registry
        )
        self._waiting = Gauge("engine_requests_waiting", "Requests all of whose texts wait", registry=registry)
        self._tokens = Counter("engine_prompt_tokens", "Tokens of texts that were read", registry=registry)
        self._padding = Counter(
            "engine_padding_tokens", "Tokens by which texts of a pass were padded", registry=registry
        )
        self._texts = Counter("engine_texts", "Texts, or pairs of texts, that were read", registry=registry)
        self._rejected = Counter("engine_requests_rejected", "Requests answered 429", registry=registry)
        self._whole = Histogram(
            "engine_request_seconds", "From arrival to the vectors", buckets=LATENCY_S, registry=registry
        )
        self._pass = Histogram("engine_step_seconds", "One forward pass", buckets=LATENCY_S, registry=registry)

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def set_load(self, running: int, waiting: int) -> None:
        """Set how many requests have texts in the pass that runs, and how many wait for one."""
        self._running.set(running)
        self._waiting.set(waiting)

    def note_rejection(self) -> None:
        """Count a request that met a full queue."""
        self._rejected.inc()

    def note_pass(self, seconds: float, lengths: Sequence[int]) -> None:
        """Count a pass over texts of these *lengths*."""
        self._pass.observe(seconds)
        self._texts.inc(len(lengths))
        self._tokens.inc(sum(lengths))
        self._padding.inc(max(lengths) * len(lengths) - sum(lengths))

    def note_answer(self, seconds: float) -> None:
        """Count a request that was answered."""
        self._whole.observe(seconds)
