"""The judge advances a good canary, holds on too little evidence, and aborts for each fault."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from gateway.rollouts.judge.judge import Decision, RolloutVerdict, judge, judge_watch
from registry.rollouts.guardrail_names import Guardrail
from registry.rollouts.guardrails import GuardrailPlan, guardrails_from
from registry.rollouts.tally import Cell, Side, Tally, bucket_of

PLAN = GuardrailPlan()


def cell(side: Side, step: int = 0, replica: str = "r1") -> Cell:
    return Cell(rollout_id="rollout", step=step, side=side, replica=replica)


def durations(count: int, median_s: float) -> Mapping[int, int]:
    """Lognormal ones, without chance: the quantiles."""
    seconds = median_s * np.exp(0.4 * np.random.default_rng(1).normal(size=count))
    return dict(Counter(bucket_of(each) for each in seconds))


def healthy(requests: int, median_s: float = 0.3) -> Tally:
    """The tally of a good revision after so many requests."""
    return Tally(
        requests=requests,
        errors={"engine_unavailable": requests // 100},
        answers=requests,
        length_finishes=requests // 10,
        empty_answers=requests // 500,
        json_asked=requests // 2,
        json_invalid=requests // 200,
        tool_calls=requests // 2,
        tool_calls_invalid=requests // 200,
        ttft=durations(requests, median_s),
        tpot=durations(requests, median_s / 10),
        feedbacks=requests // 4,
        feedback_sum=0.75 * (requests // 4),
        feedback_square_sum=0.62 * (requests // 4),
    )


STABLE, GOOD = healthy(10_000), healthy(1_000)

FAULTS: Mapping[Guardrail, Tally] = {
    Guardrail.ERROR_RATE: replace(GOOD, errors={"engine_unavailable": 40, "timeout": 20}),
    Guardrail.TTFT_P95: replace(GOOD, ttft=durations(1_000, 0.45)),
    Guardrail.TPOT_P95: replace(GOOD, tpot=durations(1_000, 0.045)),
    Guardrail.LENGTH_FINISHES: replace(GOOD, length_finishes=250),
    Guardrail.EMPTY_ANSWERS: replace(GOOD, empty_answers=40),
    Guardrail.INVALID_JSON: replace(GOOD, json_invalid=50),
    Guardrail.INVALID_TOOL_CALLS: replace(GOOD, tool_calls_invalid=50),
    Guardrail.FEEDBACK: replace(GOOD, feedback_sum=0.5 * 250, feedback_square_sum=0.35 * 250),
}


def verdict_on(canary: Tally, stable: Tally = STABLE, plan: GuardrailPlan = PLAN) -> RolloutVerdict:
    return judge(plan, {cell(Side.STABLE): stable, cell(Side.CANARY): canary}, 0)


def reason_of(verdict: RolloutVerdict) -> tuple[Decision, str]:
    return verdict.decision, verdict.reason


def test_a_canary_that_is_as_good_advances_with_evidence_on_every_guardrail() -> None:
    verdict = verdict_on(GOOD)
    assert reason_of(verdict) == (Decision.ADVANCE, "no_violation")
    assert [each.guardrail for each in verdict.evidence] == list(Guardrail)
    assert not any(each.is_violated for each in verdict.evidence)
    for each in verdict.evidence:
        assert each.low is not None and each.difference is not None and each.high is not None
        assert each.low < each.difference < each.high


@pytest.mark.parametrize("guardrail", Guardrail)
def test_every_guardrail_aborts_for_its_fault_and_says_how_much_worse_it_is(guardrail: Guardrail) -> None:
    verdict = verdict_on(FAULTS[guardrail])
    assert reason_of(verdict) == (Decision.ABORT, str(guardrail))
    (violated,) = [each for each in verdict.evidence if each.is_violated]
    assert violated.low is not None and violated.low > violated.margin
    assert str(guardrail) in verdict.message and "10,000" not in verdict.reason
    assert f"{violated.canary_samples:,} canary" in verdict.message


@pytest.mark.parametrize("guardrail", Guardrail)
def test_a_guardrail_that_is_off_aborts_nothing(guardrail: Guardrail) -> None:
    plan = guardrails_from({str(guardrail): False})
    verdict = verdict_on(FAULTS[guardrail], plan=plan)
    assert verdict.decision is not Decision.ABORT
    assert guardrail not in [each.guardrail for each in verdict.evidence]


@pytest.mark.parametrize("guardrail", Guardrail)
def test_a_margin_above_the_fault_lets_it_pass(guardrail: Guardrail) -> None:
    assert verdict_on(FAULTS[guardrail], plan=guardrails_from({str(guardrail): 0.9})).decision is Decision.ADVANCE


@pytest.mark.parametrize("guardrail", Guardrail)
def test_even_the_smallest_alpha_lets_a_gross_fault_abort(guardrail: Guardrail) -> None:
    gross = replace(
        GOOD,
        errors={"x": 900},
        ttft=durations(1_000, 3.0),
        tpot=durations(1_000, 0.3),
        length_finishes=900,
        empty_answers=900,
        json_invalid=450,
        tool_calls_invalid=450,
        feedback_sum=0.0,
        feedback_square_sum=0.0,
    )
    plan = GuardrailPlan(alpha=1e-6)
    assert guardrail in [each.guardrail for each in verdict_on(gross, plan=plan).evidence if each.is_violated]


def test_both_sides_need_their_samples() -> None:
    enough = healthy(100)
    assert verdict_on(enough, enough).decision is Decision.ADVANCE
    assert reason_of(verdict_on(healthy(99), enough)) == (Decision.HOLD, "too_few_samples")
    assert reason_of(verdict_on(enough, healthy(99))) == (Decision.HOLD, "too_few_samples")


@pytest.mark.parametrize(
    "cells", [{}, {cell(Side.CANARY): GOOD}, {cell(Side.STABLE): STABLE}, {cell(Side.CANARY): Tally()}]
)
def test_what_is_not_there_never_advances(cells: Mapping[Cell, Tally]) -> None:
    verdict = judge(PLAN, cells, 0)
    assert reason_of(verdict) == (Decision.HOLD, "too_few_samples")
    assert all(each.difference is None for each in verdict.evidence)


def test_a_shadow_step_without_enough_copies_holds_and_says_what_became_of_the_others() -> None:
    few = replace(healthy(40), copies_left_out={"cut_off": 5, "replica_busy": 1_200, "else": 1})
    verdict = verdict_on(few, healthy(40))
    assert reason_of(verdict) == (Decision.HOLD, "too_few_samples")
    assert verdict.message == (
        "40 canary and 40 stable requests in this step, 100 of each are needed; of the copies, 1,200 found clients "
        "at their replica all the time, 5 were cut off as a client came, 1 else"
    )
    assert reason_of(verdict_on(replace(GOOD, copies_left_out={"cut_off": 9_000}))) == (
        Decision.ADVANCE,
        "no_violation",
    )


def test_copies_that_were_left_out_are_evidence_of_nothing() -> None:
    none_made = {cell(Side.CANARY): Tally(copies_left_out={"cut_off": 10_000}), cell(Side.STABLE): Tally()}
    assert reason_of(judge(PLAN, none_made, 0)) == (Decision.HOLD, "too_few_samples")
    with_some = verdict_on(replace(GOOD, copies_left_out={"cut_off": 10_000}))
    assert with_some.evidence == verdict_on(GOOD).evidence


def test_samples_of_an_earlier_step_do_not_count_for_the_next() -> None:
    cells = {cell(Side.STABLE): STABLE, cell(Side.CANARY): GOOD}
    assert judge(PLAN, cells, 1).reason == "too_few_samples"
    cells |= {cell(Side.STABLE, step=1): STABLE, cell(Side.CANARY, step=1): GOOD}
    assert judge(PLAN, cells, 1).decision is Decision.ADVANCE


def test_but_their_evidence_does_and_that_of_later_steps_does_not() -> None:
    half = Tally(requests=150, errors={"x": 8})
    cells = {cell(side, step): half if side is Side.CANARY else STABLE for side in Side for step in (0, 1)}
    assert judge(PLAN, cells, 0).decision is Decision.HOLD
    assert reason_of(judge(PLAN, cells, 1)) == (Decision.ABORT, "error_rate")


@pytest.mark.parametrize("lost", [{"ttft": {}}, {"answers": 0, "length_finishes": 0, "empty_answers": 0}])
def test_a_canary_that_lacks_what_every_answer_gives_is_held(lost: Mapping[str, object]) -> None:
    assert reason_of(verdict_on(replace(GOOD, **lost))) == (Decision.HOLD, "missing_data")  # type: ignore[arg-type]


def test_what_callers_never_ask_for_holds_nothing_up() -> None:
    nothing = {"json_asked": 0, "json_invalid": 0, "tool_calls": 0, "tool_calls_invalid": 0, "feedbacks": 0}
    canary = replace(GOOD, **nothing, feedback_sum=0.0, feedback_square_sum=0.0)  # type: ignore[arg-type]
    assert verdict_on(canary).decision is Decision.ADVANCE


def test_a_canary_that_looks_worse_is_not_advanced_before_it_is_proven() -> None:
    verdict = verdict_on(replace(healthy(200), errors={"x": 4}))
    assert reason_of(verdict) == (Decision.HOLD, "in_doubt")
    assert "error_rate is 2.00%" in verdict.message


def test_a_few_answers_that_are_nearly_all_bad_are_doubt_enough() -> None:
    canary = replace(GOOD, json_asked=6, json_invalid=6)
    stable = replace(GOOD, json_asked=6, json_invalid=0)
    assert reason_of(verdict_on(canary, stable)) == (Decision.HOLD, "in_doubt")


def test_one_bad_score_is_no_doubt_but_is_told() -> None:
    canary = replace(GOOD, feedbacks=1, feedback_sum=0.0, feedback_square_sum=0.0)
    verdict = verdict_on(canary)
    assert verdict.decision is Decision.ADVANCE
    assert "too few to count against the canary, although feedback is 0.000 in 1 canary scores" in verdict.message


def test_a_caller_that_tries_twice_more_aborts_nothing() -> None:
    assert verdict_on(Tally(requests=3, errors={"x": 3})).decision is Decision.HOLD
    assert verdict_on(Tally(requests=5, errors={"x": 5})).decision is Decision.ABORT


def test_answers_that_never_came_abort_at_once() -> None:
    empty = Tally(requests=6, answers=6, empty_answers=6, ttft=durations(6, 0.3))
    assert reason_of(verdict_on(empty)) == (Decision.ABORT, "empty_answers")


def test_a_slow_replica_that_both_sides_use_is_not_blamed_on_the_canary() -> None:
    cells = {
        cell(Side.STABLE, replica="fast"): healthy(9_000, 0.3),
        cell(Side.CANARY, replica="fast"): healthy(200, 0.3),
        cell(Side.STABLE, replica="slow"): healthy(1_000, 1.2),
        cell(Side.CANARY, replica="slow"): healthy(800, 1.2),
    }
    assert judge(PLAN, cells, 0).decision is Decision.ADVANCE


def with_cache(requests: int, share: float, *, longer: float = 1.0) -> Tally:
    """A good revision that finds this share of its prompts in the engine's cache, where they take a tenth as long."""
    cached, computed = (durations(int(requests * part), at * longer) for part, at in ((share, 0.06), (1 - share, 0.6)))
    both = dict(Counter(cached) + Counter(computed))
    return replace(healthy(requests), ttft=both, ttft_cached=cached)


def test_a_canary_that_finds_its_prompts_more_rarely_in_the_cache_is_not_blamed() -> None:
    stable, canary = with_cache(10_000, 0.98), with_cache(1_000, 0.6)
    assert verdict_on(canary, stable).decision is not Decision.ABORT
    blamed = verdict_on(replace(canary, ttft_cached={}), replace(stable, ttft_cached={}))
    assert reason_of(blamed) == (Decision.ABORT, "ttft_p95")


def test_a_canary_that_is_slow_with_and_without_the_cache_is_aborted() -> None:
    verdict = verdict_on(with_cache(1_000, 0.6, longer=1.5), with_cache(10_000, 0.98))
    assert reason_of(verdict) == (Decision.ABORT, "ttft_p95")


def test_changing_weights_while_everybody_gets_worse_are_not_blamed_on_the_canary() -> None:
    cells = {
        cell(Side.STABLE, 0): replace(healthy(9_500), errors={"x": 95}),
        cell(Side.CANARY, 0): replace(healthy(500), errors={"x": 5}),
        cell(Side.STABLE, 1): replace(healthy(5_000), errors={"x": 500}),
        cell(Side.CANARY, 1): replace(healthy(5_000), errors={"x": 500}),
    }
    verdict = judge(PLAN, cells, 1)
    assert verdict.decision is Decision.ADVANCE
    assert verdict.evidence[0].difference == pytest.approx(0, abs=1e-9)


def test_a_stable_that_gets_worse_together_with_the_canary_aborts_nothing() -> None:
    both = {"errors": {"x": 100}, "ttft": durations(1_000, 0.9)}
    worse = replace(STABLE, errors={"x": 1_000}, ttft=durations(10_000, 0.9))
    assert verdict_on(replace(GOOD, **both), worse).decision is Decision.ADVANCE  # type: ignore[arg-type]


def test_a_canary_alone_on_a_slow_replica_is_aborted_and_the_message_says_so() -> None:
    cells = {
        cell(Side.STABLE, replica="fast"): healthy(9_000, 0.3),
        cell(Side.CANARY, replica="fast"): healthy(500, 0.3),
        cell(Side.CANARY, replica="slow"): healthy(500, 0.9),
    }
    verdict = judge(PLAN, cells, 0)
    assert reason_of(verdict) in {(Decision.ABORT, "ttft_p95"), (Decision.ABORT, "tpot_p95")}
    assert "where stable answered nothing" in verdict.message


def test_a_canary_alone_on_a_replica_that_is_as_fast_advances() -> None:
    cells = {
        cell(Side.STABLE, replica="one"): healthy(9_000),
        cell(Side.CANARY, replica="one"): healthy(500),
        cell(Side.CANARY, replica="two"): healthy(500),
    }
    assert judge(PLAN, cells, 0).decision is Decision.ADVANCE


def test_a_verdict_is_json() -> None:
    for canary in (GOOD, Tally(), FAULTS[Guardrail.TTFT_P95], healthy(3)):
        stored = json.loads(json.dumps(verdict_on(canary).as_json(), allow_nan=False))
        assert stored["decision"] in {"advance", "hold", "abort"}
        assert [each["guardrail"] for each in stored["evidence"]] == [str(each) for each in Guardrail]


def watched(canary: Tally, plan: GuardrailPlan = PLAN) -> RolloutVerdict:
    cells = {cell(Side.STABLE, 0): STABLE, cell(Side.CANARY, 0): GOOD, cell(Side.CANARY, 2): canary}
    return judge_watch(plan, cells, 2)


def test_a_promoted_revision_that_stays_good_is_watched() -> None:
    assert reason_of(watched(healthy(5_000))) == (Decision.HOLD, "watching")
    assert reason_of(judge_watch(PLAN, {cell(Side.CANARY, 2): GOOD}, 2)) == (Decision.HOLD, "watching")


@pytest.mark.parametrize("guardrail", [Guardrail.ERROR_RATE, Guardrail.TTFT_P95, Guardrail.INVALID_JSON])
def test_a_promoted_revision_that_turns_bad_is_rolled_back(guardrail: Guardrail) -> None:
    verdict = watched(FAULTS[guardrail])
    assert reason_of(verdict) == (Decision.ABORT, str(guardrail))
    assert verdict.message.startswith("after the promotion")


def test_the_watch_bears_twice_the_margin() -> None:
    plan = replace(PLAN, error_rate=0.02)
    worse = replace(healthy(5_000), errors={"x": 250})
    assert verdict_on(worse, plan=plan).reason == "error_rate"
    assert watched(worse, plan).decision is Decision.HOLD


def test_what_no_client_saw_and_a_full_queue_are_not_held_against_the_canary() -> None:
    cells = {
        cell(Side.STABLE): Tally(requests=5000, answers=5000),
        cell(Side.CANARY): Tally(requests=100, answers=100, errors={"retried": 50, "overloaded": 50}),
    }
    assert judge(PLAN, cells, 0).decision is Decision.ADVANCE
