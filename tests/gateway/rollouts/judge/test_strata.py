"""Requests of the canary are compared with those of stable of the same step and replica."""

from __future__ import annotations

from gateway.rollouts.judge.strata import (
    Pair,
    Pairs,
    histograms_of,
    pairs_by_cache,
    pairs_of_steps,
    pairs_of_watch,
    samples,
    sums_of,
)
from registry.rollouts.guardrail_names import Guardrail
from registry.rollouts.tally import Cell, Side, Tally


def cell(side: Side, step: int, replica: str) -> Cell:
    return Cell(rollout_id="rollout", step=step, side=side, replica=replica)


def test_a_canary_is_held_against_stable_of_the_same_step_and_replica() -> None:
    cells = {
        cell(side, step, replica): Tally(requests=100 * step + 10 * int(replica) + (side is Side.CANARY))
        for side in Side
        for step in (0, 1, 2)
        for replica in ("1", "2")
    }
    pairs = pairs_of_steps(cells, 1)
    assert [(pair.canary.requests, pair.stable.requests) for pair in pairs.shared] == [
        (11, 10),
        (21, 20),
        (111, 110),
        (121, 120),
    ]
    assert pairs.lone == ()


def test_every_request_of_the_canary_is_compared_once() -> None:
    cells = {
        cell(Side.STABLE, 0, "1"): Tally(requests=50),
        cell(Side.STABLE, 0, "2"): Tally(requests=60),
        cell(Side.CANARY, 0, "2"): Tally(requests=5),
        cell(Side.CANARY, 0, "3"): Tally(requests=6),
        cell(Side.CANARY, 0, "4"): Tally(requests=7),
    }
    pairs = pairs_of_steps(cells, 0)
    assert pairs.shared == (Pair(canary=Tally(requests=5), stable=Tally(requests=60)),)
    assert pairs.lone == (Pair(canary=Tally(requests=13), stable=Tally(requests=110)),)


def test_a_canary_without_any_stable_is_compared_with_nothing() -> None:
    pairs = pairs_of_steps({cell(Side.CANARY, 0, "1"): Tally(requests=5)}, 0)
    assert pairs.shared == pairs.lone == ()


def test_the_watch_is_held_against_stable_before_the_promotion() -> None:
    cells = {
        cell(Side.STABLE, 0, "1"): Tally(requests=50),
        cell(Side.STABLE, 1, "1"): Tally(requests=60),
        cell(Side.CANARY, 1, "1"): Tally(requests=70),
        cell(Side.CANARY, 2, "1"): Tally(requests=5),
    }
    assert pairs_of_watch(cells, 2).shared == (Pair(canary=Tally(requests=5), stable=Tally(requests=110)),)


def test_each_guardrail_counts_what_it_is_a_share_of() -> None:
    tally = Tally(
        requests=10,
        errors={"a": 1, "b": 2},
        answers=7,
        length_finishes=3,
        empty_answers=2,
        json_asked=5,
        json_invalid=4,
        tool_calls=6,
        tool_calls_invalid=1,
        ttft={3: 2, 5: 1},
        tpot={2: 4},
        feedbacks=2,
        feedback_sum=1.25,
        feedback_square_sum=1.0625,
    )
    rows = {
        each: (float(sums.count[0]), float(sums.total[0]), float(sums.squares[0]))
        for each in Guardrail
        if each not in (Guardrail.TTFT_P95, Guardrail.TPOT_P95)
        for sums in [sums_of([tally], each)]
    }
    assert rows == {
        Guardrail.ERROR_RATE: (10, 3, 3),
        Guardrail.LENGTH_FINISHES: (7, 3, 3),
        Guardrail.EMPTY_ANSWERS: (7, 2, 2),
        Guardrail.INVALID_JSON: (5, 4, 4),
        Guardrail.INVALID_TOOL_CALLS: (6, 1, 1),
        Guardrail.FEEDBACK: (2, 0.75, 0.5625),  # scores 1 and 0.25: what they lack to 1
    }
    assert samples(Guardrail.TTFT_P95, tally) == 3
    assert samples(Guardrail.TPOT_P95, tally) == 4


def test_histograms_of_both_sides_have_the_same_buckets() -> None:
    pairs = [Pair(canary=Tally(ttft={-3: 1}), stable=Tally(ttft={0: 2, -1: 5})), Pair(canary=Tally(), stable=Tally())]
    canary, stable, first = histograms_of(pairs, Guardrail.TTFT_P95)
    assert first == -3
    assert canary.T.tolist() == [[1, 0, 0, 0], [0, 0, 0, 0]]
    assert stable.T.tolist() == [[0, 0, 5, 2], [0, 0, 0, 0]]


def test_prompts_in_a_cache_are_compared_apart_from_those_that_were_computed() -> None:
    tally = Tally(ttft={0: 3, 1: 4}, ttft_cached={0: 3, 1: 1}, tpot={2: 5}, tpot_cached={2: 2})
    pairs = Pairs(shared=(Pair(canary=tally, stable=Tally(ttft={1: 9})),), lone=())
    computed, cached = pairs_by_cache(pairs)
    times = [
        (each.ttft, each.tpot)
        for group in (computed, cached)
        for pair in group.shared
        for each in (pair.canary, pair.stable)
    ]
    assert times == [({1: 3}, {2: 3}), ({1: 9}, {}), ({0: 3, 1: 1}, {2: 2}), ({}, {})]
