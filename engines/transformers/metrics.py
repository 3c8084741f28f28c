"""The metrics of the server."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from engines.transformers.sequence import Delta, FinishReason, Sequence

LATENCY_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class EngineMetrics:
    """Metrics of one server, in a registry of their own; safe to use from several threads."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._running = Gauge("engine_requests_running", "Sequences that have a slot", registry=registry)
        self._waiting = Gauge("engine_requests_waiting", "Sequences that wait for a slot", registry=registry)
        self.adapters = Gauge("engine_adapters_loaded", "Adapters that answer requests", registry=registry)
        self._prompt_tokens = Counter("engine_prompt_tokens", "Tokens of prompts answered", registry=registry)
        self._reused_tokens = Counter(
            "engine_reused_prompt_tokens", "Tokens of prompts that were not computed again", registry=registry
        )
        self._generated = Counter("engine_generation_tokens", "Tokens generated", registry=registry)
        self._finished = Counter("engine_sequences_finished", "Answers that ended", ["reason"], registry=registry)
        self._rejected = Counter("engine_requests_rejected", "Requests answered 429", registry=registry)
        self._first_token = Histogram(
            "engine_time_to_first_token_seconds", "From arrival to the first text", buckets=LATENCY_S, registry=registry
        )
        self._gap = Histogram(
            "engine_inter_token_seconds", "Between two pieces of an answer", buckets=LATENCY_S, registry=registry
        )
        self._whole = Histogram(
            "engine_sequence_seconds", "From arrival to the end", buckets=LATENCY_S, registry=registry
        )
        self._step = Histogram(
            "engine_step_seconds", "One forward pass with its sampling", buckets=LATENCY_S, registry=registry
        )
        for reason in FinishReason:
            self._finished.labels(reason)

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def set_load(self, running: int, waiting: int) -> None:
        """Set how many sequences have a slot, and how many wait for one."""
        self._running.set(running)
        self._waiting.set(waiting)

    def note_rejection(self) -> None:
        """Count a request that met a full queue."""
        self._rejected.inc()

    def note_step(self, seconds: float, tokens: int) -> None:
        """Count a step and its tokens."""
        self._step.observe(seconds)
        self._generated.inc(tokens)

    def note_delta(self, sequence: Sequence, delta: Delta, now: float) -> None:
        """Count the tokens and times of a delta; *now* is of `time.monotonic`."""
        if sequence.last_token_at == 0.0:
            self._first_token.observe(now - sequence.arrived_at)
            self._prompt_tokens.inc(len(sequence.tokens) - sequence.generated)
            self._reused_tokens.inc(sequence.reused)
        else:
            self._gap.observe(now - sequence.last_token_at)
        sequence.last_token_at = now
        if delta.finish is not None:
            self._finished.labels(delta.finish).inc()
            self._whole.observe(now - sequence.arrived_at)
