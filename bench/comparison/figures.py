"""From runs to figures: medians over rounds, and our figures beside those of the best peer. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.comparison.cases import Case
from bench.comparison.measuring import Run

OURS: Final = "lorry"
DIRECT: Final = "direct"
SLOW_PEER: Final = "litellm"
ENOUGH_STREAMS: Final = 100
"""Below so many, a p99 is the slowest one or two."""

Figure = Callable[[Run], float]


def requests_per_s(run: Run) -> float:
    """Return the whole answers of a second."""
    return run.load.ok / run.load.seconds


def chunks_per_s(run: Run) -> float:
    """Return the chunks of a second that reached the clients."""
    return run.load.chunks / run.load.seconds


def cpu_per_request_ms(run: Run) -> float:
    """Return the milliseconds of the serving processes for a request, which are also seconds per 1,000 requests."""
    return 1e3 * run.serving_cpu_s / max(run.load.ok, 1)


def cpu_per_chunk_us(run: Run) -> float:
    """Return the microseconds of the serving processes for a chunk; a tenth of it is seconds per 100,000 chunks."""
    return 1e6 * run.serving_cpu_s / max(run.load.chunks, 1)


def whole_cpu_per_request_ms(run: Run) -> float:
    """Return the milliseconds of all processes of the target for a request."""
    return 1e3 * run.whole_cpu_s / max(run.load.ok, 1)


def whole_cpu_per_chunk_us(run: Run) -> float:
    """Return the microseconds of all processes of the target for a chunk."""
    return 1e6 * run.whole_cpu_s / max(run.load.chunks, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """All runs of one measurement."""

    all: Sequence[Run]

    def of(self, case: str, target: str) -> list[Run]:
        """Return the runs of one case and target, by round."""
        return [run for run in self.all if run.case == case and run.target == target]

    def median(self, case: str, target: str, figure: Figure) -> float:
        """Return the median of a figure over the rounds; not a number where there was no run."""
        found = [figure(run) for run in self.of(case, target)]
        return statistics.median(found) if found else math.nan

    def ratio(self, case: str, target: str, other: str, figure: Figure) -> float:
        """Return the median of the rounds' ratios: what disturbed both in a round cancels out."""
        pairs = zip(self.of(case, target), self.of(case, other), strict=True)
        return statistics.median(figure(one) / (figure(beside) or math.nan) for one, beside in pairs)

    def first_token_ms(self, case: str, target: str, share: float) -> float:
        """Return the quantile over the streams of all rounds."""
        waits = sorted(wait for run in self.of(case, target) for wait in run.load.first_token_us)
        return waits[round(share * (len(waits) - 1))] / 1e3 if waits else math.nan

    def added_first_token_ms(self, case: str, target: str, share: float) -> float:
        """Return how much later the token comes than directly from the mock."""
        return self.first_token_ms(case, target, share) - self.first_token_ms(case, DIRECT, share)

    def streams(self, case: str, target: str) -> int:
        """Return how many first tokens were seen in all rounds."""
        return sum(len(run.load.first_token_us) for run in self.of(case, target))

    def answers(self, case: str, target: str) -> bool:
        """Return whether the target answered in every round; a crashed target is not compared with."""
        found = self.of(case, target)
        return bool(found) and all(run.load.ok or run.load.chunks for run in found)

    def failed(self, case: str, target: str) -> int:
        """Return the number of requests that were not answered as they should be."""
        return sum(run.load.failed for run in self.of(case, target))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result of one of the project's targets in one case."""

    wanted: str
    case: str
    ours: float
    peer: str
    """The best one."""
    theirs: float
    ratio: float
    """Ours by theirs."""
    told: str
    """`met`, or missed by how much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """A bound for the ratio of ours to the best peer's."""

    text: str
    figure: Figure
    bound: float
    at_least: bool
    applies: Callable[[Case], bool]

    def told(self, ratio: float) -> str:
        missed_by = 1 - ratio / self.bound if self.at_least else ratio / self.bound - 1
        return f"missed by {missed_by:.0%}" if missed_by > 0 else "met"


_FASTER: Final = _Wanted(
    text="requests/s at least 1.25 times the best peer's",
    figure=requests_per_s,
    bound=1.25,
    at_least=True,
    applies=lambda case: not case.is_stream,
)
_AS_MANY_CHUNKS: Final = _Wanted(
    text="chunks/s at least the best peer's",
    figure=chunks_per_s,
    bound=1.0,
    at_least=True,
    applies=lambda case: case.is_stream and not case.is_paced,
)
_AS_CHEAP: Final = _Wanted(
    text="CPU µs per chunk at most 1.2 times the best peer's",
    figure=cpu_per_chunk_us,
    bound=1.2,
    at_least=False,
    applies=lambda case: case.is_stream,
)
_MUCH_FASTER: Final = _Wanted(
    text="requests/s at least 20 times LiteLLM's",
    figure=requests_per_s,
    bound=20.0,
    at_least=True,
    applies=lambda case: not case.is_stream,
)
_FIRST_TOKEN: Final = "added TTFT p99 ms not above the best peer's"


def verdicts(runs: Runs, cases: Sequence[Case], peers: Sequence[str]) -> list[Verdict]:
    """Return the project's targets with their results, case by case; none without Lorry or without peers."""
    there = {run.target for run in runs.all}
    if not peers or OURS not in there:
        return []
    found = _of_all(_FASTER, runs, cases, peers) + _of_all(_AS_MANY_CHUNKS, runs, cases, peers)
    if DIRECT in there:
        found += [told for case in cases if case.is_stream for told in _first_token(runs, case, peers)]
    found += _of_all(_AS_CHEAP, runs, cases, peers)
    return found + (_of_all(_MUCH_FASTER, runs, cases, [SLOW_PEER]) if SLOW_PEER in peers else [])


def _of_all(wanted: _Wanted, runs: Runs, cases: Sequence[Case], peers: Sequence[str]) -> list[Verdict]:
    found = []
    for case in (each for each in cases if wanted.applies(each)):
        if there := [peer for peer in peers if runs.answers(case.name, peer)]:
            found.append(_verdict(wanted, runs, case.name, there))
    return found


def _verdict(wanted: _Wanted, runs: Runs, case: str, peers: Sequence[str]) -> Verdict:
    by_figure = {peer: runs.median(case, peer, wanted.figure) for peer in peers}
    best = (max if wanted.at_least else min)(by_figure, key=lambda peer: by_figure[peer])
    ratio = runs.ratio(case, OURS, best, wanted.figure)
    return Verdict(
        wanted=wanted.text,
        case=case,
        ours=runs.median(case, OURS, wanted.figure),
        peer=best,
        theirs=by_figure[best],
        ratio=ratio,
        told=wanted.told(ratio),
    )


def _first_token(runs: Runs, case: Case, peers: Sequence[str]) -> list[Verdict]:
    """Return one verdict, or none where too few streams were seen for a p99."""
    if runs.streams(case.name, OURS) < ENOUGH_STREAMS:
        return []
    seen = [peer for peer in peers if runs.streams(case.name, peer) >= ENOUGH_STREAMS]
    added = {peer: runs.added_first_token_ms(case.name, peer, 0.99) for peer in seen}
    if not added:
        return []
    best = min(added, key=lambda peer: added[peer])
    ours = runs.added_first_token_ms(case.name, OURS, 0.99)
    return [
        Verdict(
            wanted=_FIRST_TOKEN,
            case=case.name,
            ours=ours,
            peer=best,
            theirs=added[best],
            ratio=ours / added[best],
            told="met" if ours <= added[best] else f"missed by {ours - added[best]:.2f} ms",
        )
    ]
