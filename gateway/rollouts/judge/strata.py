"""Strata: which canary requests are compared with which stable ones. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from gateway.rollouts.judge.bounds import Floats, Sums
from registry.rollouts.guardrail_names import Guardrail
from registry.rollouts.guardrails import RELATIVE
from registry.rollouts.tally import Cell, Side, Tally, total


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The tallies of both sides in one stratum."""

    canary: Tally
    stable: Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Pairs to compare; every canary request is in exactly one of the two groups."""

    shared: tuple[Pair, ...]
    """A pair for each step and replica on which both sides answered: only the adapter differs."""
    lone: tuple[Pair, ...]
    """For each step, the canary's requests on replicas where stable had none, paired with all of stable's. A difference
    may be the replica's fault, but it affects the canary's callers all the same."""


def pairs_of_steps(cells: Mapping[Cell, Tally], step: int) -> Pairs:
    """Return the pairs up to and including *step*, each step's canary with the stable of the same time."""
    by_step: dict[int, dict[Cell, Tally]] = defaultdict(dict)
    for cell, tally in cells.items():
        if cell.step <= step:
            by_step[cell.step][cell] = tally
    each = [_matched(_by_replica(rest, Side.CANARY), _by_replica(rest, Side.STABLE)) for rest in by_step.values()]
    return Pairs(
        shared=tuple(p for pairs in each for p in pairs.shared), lone=tuple(p for pairs in each for p in pairs.lone)
    )


def pairs_of_watch(cells: Mapping[Cell, Tally], steps: int) -> Pairs:
    """Return the pairs of the watch: the former canary after its promotion, with stable on the same replica before."""
    after = {cell: tally for cell, tally in cells.items() if cell.step == steps}
    before = {cell: tally for cell, tally in cells.items() if cell.step < steps}
    return _matched(_by_replica(after, Side.CANARY), _by_replica(before, Side.STABLE))


def pairs_by_cache(pairs: Pairs) -> tuple[Pairs, Pairs]:
    """Return the pairs with the times of prompts that engines computed, and with those of prompts in their caches.

    The two are not compared with each other. A canary with few requests finds its prompts in a cache more rarely than
    stable, whatever it is worth; with all traffic it will find them as often.
    """
    return _timed(pairs, _of_computed), _timed(pairs, _of_cached)


def sums_of(tallies: Iterable[Tally], guardrail: Guardrail) -> Sums:
    """Return the counts and sums of bad values, one stratum for each tally."""
    rows = np.array([_row(guardrail, tally) for tally in tallies], dtype=np.float64).reshape(-1, 3)
    return Sums(count=rows[:, 0], total=rows[:, 1], squares=rows[:, 2])


def histograms_of(pairs: Iterable[Pair], guardrail: Guardrail) -> tuple[Floats, Floats, int]:
    """Return histograms (bucket, stratum) of canary and stable over the same buckets, and the first bucket."""
    columns = [(_durations(guardrail, pair.canary), _durations(guardrail, pair.stable)) for pair in pairs]
    seen = [bucket for column in columns for side in column for bucket in side]
    first, last = min(seen, default=0), max(seen, default=0)
    both = np.zeros((2, last - first + 1, len(columns)))
    for stratum, column in enumerate(columns):
        for side, counts in enumerate(column):
            both[side, np.array([*counts], dtype=np.intp) - first, stratum] = [*counts.values()]
    return both[0], both[1], first


def samples(guardrail: Guardrail, tally: Tally) -> int:
    """Return how many requests (answers, tool calls, scores) of the tally count for the guardrail."""
    if guardrail in RELATIVE:
        return sum(_durations(guardrail, tally).values())
    return int(_row(guardrail, tally)[0])


def _timed(pairs: Pairs, part: Callable[[Tally], Tally]) -> Pairs:
    shared, lone = (
        tuple(Pair(canary=part(pair.canary), stable=part(pair.stable)) for pair in group)
        for group in (pairs.shared, pairs.lone)
    )
    return Pairs(shared=shared, lone=lone)


def _of_cached(tally: Tally) -> Tally:
    return replace(tally, ttft=tally.ttft_cached, tpot=tally.tpot_cached)


def _of_computed(tally: Tally) -> Tally:
    return replace(tally, ttft=_without(tally.ttft, tally.ttft_cached), tpot=_without(tally.tpot, tally.tpot_cached))


def _without(buckets: Mapping[int, int], others: Mapping[int, int]) -> Mapping[int, int]:
    left = {bucket: count - others.get(bucket, 0) for bucket, count in buckets.items()}
    return {bucket: count for bucket, count in left.items() if count}


def _matched(canary: Mapping[str, Tally], stable: Mapping[str, Tally]) -> Pairs:
    shared = [replica for replica in canary if replica in stable]
    lone = total(canary[replica] for replica in canary if replica not in stable)
    return Pairs(
        shared=tuple(Pair(canary=canary[replica], stable=stable[replica]) for replica in shared),
        lone=(Pair(canary=lone, stable=total(stable.values())),) if lone.requests and stable else (),
    )


def _by_replica(cells: Mapping[Cell, Tally], side: Side) -> dict[str, Tally]:
    found: dict[str, Tally] = {}
    for cell, tally in cells.items():
        if cell.side is side and (tally.requests or tally.feedbacks):
            found[cell.replica] = found[cell.replica].plus(tally) if cell.replica in found else tally
    return found


def _row(guardrail: Guardrail, tally: Tally) -> tuple[float, float, float]:
    if guardrail is Guardrail.FEEDBACK:
        count, scores = tally.feedbacks, tally.feedback_sum
        # A rating's badness is 1 - score, and its square 1 - 2 score + score^2.
        return count, count - scores, count - 2 * scores + tally.feedback_square_sum
    count, bad = {
        Guardrail.ERROR_RATE: (tally.requests, tally.failures),
        Guardrail.LENGTH_FINISHES: (tally.answers, tally.length_finishes),
        Guardrail.EMPTY_ANSWERS: (tally.answers, tally.empty_answers),
        Guardrail.INVALID_JSON: (tally.json_asked, tally.json_invalid),
        Guardrail.INVALID_TOOL_CALLS: (tally.tool_calls, tally.tool_calls_invalid),
    }[guardrail]
    return count, bad, bad


def _durations(guardrail: Guardrail, tally: Tally) -> Mapping[int, int]:
    return tally.ttft if guardrail is Guardrail.TTFT_P95 else tally.tpot
