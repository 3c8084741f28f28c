from __future__ import annotations

from gateway.canary.judge import Decision, judge, judge_watch
from registry.guardrails import GuardrailPlan
from registry.observation import Cell, Side, Tally

PLAN = GuardrailPlan()


def cell(side: Side, step: int = 0, replica: str = "r1") -> Cell:
    return Cell(rollout_id="rollout", step=step, side=side, replica=replica)


def test_too_few_samples_hold() -> None:
    cells = {cell(Side.STABLE): Tally(requests=5000, answers=5000), cell(Side.CANARY): Tally(requests=99, answers=99)}
    verdict = judge(PLAN, cells, 0)
    assert (verdict.decision, verdict.reason) == (Decision.HOLD, "too_few_samples")


def test_enough_samples_and_no_violation_advance() -> None:
    cells = {cell(Side.STABLE): Tally(requests=5000, answers=5000), cell(Side.CANARY): Tally(requests=100, answers=100)}
    assert judge(PLAN, cells, 0).decision is Decision.ADVANCE


def test_a_canary_that_fails_is_aborted() -> None:
    cells = {
        cell(Side.STABLE): Tally(requests=5000, answers=5000),
        cell(Side.CANARY): Tally(requests=20, errors={"x": 9}),
    }
    verdict = judge(PLAN, cells, 0)
    assert (verdict.decision, verdict.reason) == (Decision.ABORT, "error_rate")


def test_a_revision_that_fails_after_its_promotion_is_rolled_back() -> None:
    cells = {
        cell(Side.STABLE): Tally(requests=500, answers=500),
        cell(Side.CANARY, step=2): Tally(requests=20, errors={"x": 9}),
    }
    verdict = judge_watch(PLAN, cells, 2)
    assert (verdict.decision, verdict.reason) == (Decision.ABORT, "error_rate")


def test_what_no_client_saw_and_a_full_queue_are_not_held_against_the_canary() -> None:
    cells = {
        cell(Side.STABLE): Tally(requests=5000, answers=5000),
        cell(Side.CANARY): Tally(requests=100, answers=100, errors={"retried": 50, "overloaded": 50}),
    }
    assert judge(PLAN, cells, 0).decision is Decision.ADVANCE
