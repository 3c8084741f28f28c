"""Prometheus metrics of finished requests: plain numbers while counting, metric families when scraped."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.telemetry.finished import BROKEN, CLIENT_LEFT, Finished

OTHER: Final = "other"
"""Label for all served names beyond the number that a gateway keeps figures of."""

_WHO: Final = ("adapter", "revision", "pool")
_FIRST_BYTE_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TOKEN_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_QUEUE_S: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60)
_COLD_START_S: Final = (1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
_OVERHEAD_S: Final = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


def labels_of(served_name: str) -> tuple[str, str]:
    """Return adapter and revision of *served_name*; a base model counts as an adapter without a revision."""
    adapter, at, revision = served_name.rpartition("@")
    return (adapter, revision) if at else (served_name, "")


class Distribution:
    """A histogram: how many values fell between neighbouring *bounds*, and their sum."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count one value; a value equal to a bound lies below it."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Add the histogram to *family* under *labels*, unless it is empty."""
        counts = list(self._counts)
        if any(counts):
            bounds = [*map(str, map(float, self._bounds)), "+Inf"]
            family.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), self._sum)


class _Figures:
    """Counts of the requests for one served name at one pool."""

    __slots__ = (
        "broken",
        "completion_tokens",
        "departed",
        "first_byte_streamed",
        "first_byte_whole",
        "outcomes",
        "prompt_tokens",
        "refused",
        "retries",
        "token",
    )

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, int]] = Counter()
        self.refused: Counter[str] = Counter()
        self.retries = self.departed = self.broken = 0
        self.prompt_tokens = self.completion_tokens = 0
        self.first_byte_streamed = Distribution(_FIRST_BYTE_S)
        self.first_byte_whole = Distribution(_FIRST_BYTE_S)
        self.token = Distribution(_TOKEN_S)

    def add(self, facts: Finished) -> None:
        """Count one request."""
        self.outcomes[facts.path, facts.status] += 1
        self.retries += facts.retries
        self.prompt_tokens += facts.prompt_tokens or 0
        tokens = facts.completion_tokens or 0
        self.completion_tokens += tokens
        if facts.reason:
            self._add_failure(facts.reason)
        if facts.first_byte_at is None or facts.status >= 400:
            return
        if not facts.streamed:
            self.first_byte_whole.add(facts.first_byte_at - facts.began)
            return
        self.first_byte_streamed.add(facts.first_byte_at - facts.began)
        if tokens > 1 and not facts.reason:
            # The first token came with the first byte, so the time after it belongs to the others.
            self.token.add((facts.ended - facts.first_byte_at) / (tokens - 1))

    def _add_failure(self, reason: str) -> None:
        if reason == CLIENT_LEFT:
            self.departed += 1
        elif reason == BROKEN:
            self.broken += 1
        else:
            self.refused[reason] += 1


class FinishedMetrics(Collector):
    """Counts every finished request on the event loop without locks; may be read from any thread.

    Keeps figures of *most_names* pairs of served name and pool; all others count as `other`.
    """

    def __init__(self, most_names: int) -> None:
        self._most_names = most_names
        self._figures: dict[tuple[str, str], _Figures] = {}
        self._queue: dict[str, Distribution] = {}
        self._cold_starts: dict[tuple[str, str], Distribution] = {}
        self._overhead = Distribution(_OVERHEAD_S)

    def finished(self, facts: Finished) -> None:
        """Count the request."""
        figures = self._figures.get((facts.served_name, facts.pool))
        if figures is None:
            figures = self._figures_of(facts.served_name, facts.pool)
        figures.add(facts)
        self._overhead.add(facts.overhead_s)
        if facts.cold_start_s:  # the queue's figures are of requests that wait for others
            outcome = facts.reason if facts.sent_at is None else "served"
            cold = self._cold_starts.setdefault((facts.pool, outcome), Distribution(_COLD_START_S))
            cold.add(facts.cold_start_s)
            return
        queue = self._queue.get(facts.pool)
        if queue is None:
            queue = self._queue[facts.pool] = Distribution(_QUEUE_S)
        queue.add(facts.queued_s)

    def forget_unless(self, exists: Callable[[str], bool]) -> None:
        """Drop the figures of served names that do not exist any more, which frees room for present ones."""
        for key in list(self._figures):
            if key[0] not in ("", OTHER) and not exists(key[0]):
                self._figures.pop(key, None)

    def collect(self) -> Iterator[Metric]:
        """Yield all families, including those without figures."""
        # The event loop counts meanwhile: `list` copies a dict in one step, which no other thread interrupts.
        shown = [((*labels_of(name), pool), figures) for (name, pool), figures in list(self._figures.items())]
        yield from _counters(shown)
        yield from _histograms(shown)
        queue = _histogram("queue_seconds", "Seconds that requests waited for their turn", ("pool",))
        for pool, waited in list(self._queue.items()):
            waited.add_to(queue, (pool,))
        yield queue
        cold = _histogram(
            "cold_start_seconds", "Seconds that requests waited for a pool without a replica", ("pool", "outcome")
        )
        for labels, waited in list(self._cold_starts.items()):
            waited.add_to(cold, labels)
        yield cold
        overhead = _histogram("overhead_seconds", "Seconds that the gateway itself adds to a request", ())
        self._overhead.add_to(overhead, ())
        yield overhead

    def _figures_of(self, served_name: str, pool: str) -> _Figures:
        """Return the figures of a name that had none, or those of `other` when there is no room."""
        if len(self._figures) >= self._most_names:
            return self._figures.setdefault((OTHER, ""), _Figures())
        return self._figures.setdefault((served_name, pool), _Figures())


def _counters(shown: Sequence[tuple[tuple[str, ...], _Figures]]) -> Iterator[Metric]:
    requests = _counter("requests", "Inference requests that are over", (*_WHO, "path", "status"))
    refused = _counter("refused", "Requests that the gateway itself answered with an error", (*_WHO, "reason"))
    for who, figures in shown:
        for (path, status), count in list(figures.outcomes.items()):
            requests.add_metric((*who, path, str(status)), count)
        for reason, count in list(figures.refused.items()):
            refused.add_metric((*who, reason), count)
    yield requests
    yield refused
    for name, text, count_of in _COUNTS:
        family = _counter(name, text, _WHO)
        for who, figures in shown:
            family.add_metric(who, count_of(figures))
        yield family


def _histograms(shown: Sequence[tuple[tuple[str, ...], _Figures]]) -> Iterator[Metric]:
    first_byte = _histogram(
        "first_byte_seconds", "Seconds from a request's arrival to the first byte of its answer", (*_WHO, "streamed")
    )
    token = _histogram("token_seconds", "Seconds per output token after the first byte, of complete streams", _WHO)
    for who, figures in shown:
        figures.first_byte_streamed.add_to(first_byte, (*who, "true"))
        figures.first_byte_whole.add_to(first_byte, (*who, "false"))
        figures.token.add_to(token, who)
    yield first_byte
    yield token


_COUNTS: Final[tuple[tuple[str, str, Callable[[_Figures], float]], ...]] = (
    ("retries", "Attempts repeated because a replica failed before its first byte", lambda figures: figures.retries),
    (
        "cancelled",
        "Requests whose client disconnected before the answer was complete",
        lambda figures: figures.departed,
    ),
    ("broken_streams", "Answers that ended with an error event", lambda figures: figures.broken),
    ("prompt_tokens", "Tokens of prompts, as engines report them", lambda figures: figures.prompt_tokens),
    ("completion_tokens", "Tokens of answers, as engines report them", lambda figures: figures.completion_tokens),
)


def _counter(name: str, text: str, labels: Sequence[str]) -> CounterMetricFamily:
    return CounterMetricFamily(f"gateway_{name}", text, labels=labels)


def _histogram(name: str, text: str, labels: Sequence[str]) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"gateway_{name}", text, labels=labels)
