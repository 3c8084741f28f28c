"""Prometheus metrics of what is counted of watched rollouts."""

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
    """Labels are the adapter and the side, bounded by the adapters there are; rollouts come and go without end."""

    def __init__(self, collector: CollectorRegistry) -> None:
        about = {
            "requests": "Answered or failed through no fault of the client",
            "answers": "Choices of requests that were answered whole",
            "output_tokens": "Tokens of those answers",
            "json_asked": "Answers for which response_format asked for JSON",
            "tool_calls": "Calls of functions in answers",
        }
        self._counts = {name: _counter(collector, name, text, _LABELS) for name, text in about.items()}
        self._errors = _counter(collector, "errors", "Failed requests by kind of error", [*_LABELS, "kind"])
        self._faults = _counter(collector, "faults", "Answers or calls that are wrong by kind", [*_LABELS, "kind"])
        self._feedbacks = _counter(collector, "feedbacks", "Ratings by people", _LABELS)
        self._scores = _counter(collector, "feedback_score", "Sum of the ratings, each from 0 to 1", _LABELS)
        self._comparisons = _counter(collector, "comparisons", "Pairs of answers that a judge model decided", _LABELS)
        self._wins = _counter(collector, "wins", "Of those, won by the canary; ties count half", _LABELS)
        self._ttft = _histogram(collector, "ttft_seconds", "To the first token of a stream", _FIRST_TOKEN_S)
        self._tpot = _histogram(collector, "tpot_seconds", "Per output token", _PER_TOKEN_S)
        self.dropped_copies = _counter(collector, "shadow_dropped", "Copies that were not made", ["adapter", "reason"])
        self.flush_failures = Counter(
            "gateway_observation_flush_failures",
            "Attempts to tell the registry what was counted that failed; they are repeated",
            registry=collector,
        )

    def count(self, adapter: str, side: Side, tally: Tally) -> None:
        """Add what one request came to."""
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
        """Add a rating that this gateway took."""
        self._feedbacks.labels(adapter, side).inc()
        self._scores.labels(adapter, side).inc(score)


def _counter(collector: CollectorRegistry, name: str, text: str, labels: list[str]) -> Counter:
    return Counter(f"gateway_rollout_{name}", text, labels, registry=collector)


def _histogram(collector: CollectorRegistry, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
    return Histogram(f"gateway_rollout_{name}", text, _LABELS, buckets=buckets, registry=collector)
