"""Prometheus metrics of the counts of watched rollouts."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from registry.rollouts.tally import Side, Tally, seconds_of

_LABELS: Final = ["adapter", "side"]
_FIRST_TOKEN_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_PER_TOKEN_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_FAULTS: Final = ("length_finishes", "empty_answers", "json_invalid", "tool_calls_invalid")
_COUNTS: Final = ("requests", "answers", "output_tokens", "json_asked", "tool_calls")


class RolloutMetrics:
    """Metrics by adapter and side, which are bounded in number, and not by rollout, which are not."""

    def __init__(self, collector: CollectorRegistry) -> None:
        about = {
            "requests": "Requests answered, or failed through no fault of the client",
            "answers": "Choices of requests that were answered completely",
            "output_tokens": "Tokens of those answers",
            "json_asked": "Answers for which response_format asked for JSON",
            "tool_calls": "Tool calls in answers",
        }
        self._counts = {name: _counter(collector, name, text, _LABELS) for name, text in about.items()}
        self._errors = _counter(collector, "errors", "Failed requests by kind of error", [*_LABELS, "kind"])
        self._faults = _counter(collector, "faults", "Faulty answers or tool calls by kind", [*_LABELS, "kind"])
        self._feedbacks = _counter(collector, "feedbacks", "Ratings by people", _LABELS)
        self._scores = _counter(collector, "feedback_score", "Sum of the ratings, each from 0 to 1", _LABELS)
        self._comparisons = _counter(collector, "comparisons", "Pairs of answers that a judge model compared", _LABELS)
        self._wins = _counter(collector, "wins", "Compared pairs that the canary won; ties count half", _LABELS)
        self._ttft = _histogram(collector, "ttft_seconds", "Seconds to the first token of a stream", _FIRST_TOKEN_S)
        self._tpot = _histogram(collector, "tpot_seconds", "Seconds per output token", _PER_TOKEN_S)
        self.dropped_copies = _counter(
            collector, "shadow_dropped", "Shadow copies that were not made", ["adapter", "reason"]
        )
        self.flush_failures = Counter(
            "gateway_observation_flush_failures",
            "Failed attempts to report counts to the registry; they are repeated",
            registry=collector,
        )

    def count(self, adapter: str, side: Side, tally: Tally) -> None:
        """Add the tally of one request."""
        for name in _COUNTS:
            self._counts[name].labels(adapter, side).inc(getattr(tally, name))
        for kind, errors in tally.errors.items():
            self._errors.labels(adapter, side, kind).inc(errors)
        for kind in _FAULTS:
            self._faults.labels(adapter, side, kind).inc(getattr(tally, kind))
        for histogram, buckets in ((self._ttft, tally.ttft), (self._tpot, tally.tpot)):
            for bucket in buckets:
                histogram.labels(adapter, side).observe(seconds_of(bucket))
        if tally.comparisons:
            self._comparisons.labels(adapter, side).inc(tally.comparisons)
            self._wins.labels(adapter, side).inc(tally.win_sum)

    def rate(self, adapter: str, side: Side, score: float) -> None:
        """Add a rating that this gateway received."""
        self._feedbacks.labels(adapter, side).inc()
        self._scores.labels(adapter, side).inc(score)


def _counter(collector: CollectorRegistry, name: str, text: str, labels: list[str]) -> Counter:
    return Counter(f"gateway_rollout_{name}", text, labels, registry=collector)


def _histogram(collector: CollectorRegistry, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
    return Histogram(f"gateway_rollout_{name}", text, _LABELS, buckets=buckets, registry=collector)
