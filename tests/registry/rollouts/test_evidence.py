"""Verdicts and deliveries are kept in the database for good, counted, and moved by compare-and-set."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from registry.database import Registry
from registry.errors import RolloutOpen, StaleState
from registry.rollouts.guardrails import GuardrailPlan
from registry.rollouts.rollout import Rollout, RolloutPlan, plan_from, weighted
from registry.rollouts.rollout_state import RolloutState

JUDGED = RolloutPlan(steps=weighted(25, 100), guardrails=GuardrailPlan(error_rate=0.02))
HOLD = {"decision": "hold", "reason": "too_few_samples", "message": "", "evidence": [], "step": 0}
ABORT = HOLD | {"decision": "abort", "reason": "error_rate"}


@pytest.fixture
def promoted(published: Registry) -> Rollout:
    """`support@2` became stable on a verdict."""
    rollout = published.rollouts.start("support", 2, JUDGED, "ann")
    rollout = published.rollouts.move(rollout.id, rollout.state, RolloutState.PROGRESSING, reason="loaded")
    advance = HOLD | {"decision": "advance"}
    to = RolloutState.PROMOTED
    return published.rollouts.move(rollout.id, rollout.state, to, reason="no_violation", evidence=advance)


def test_a_plan_comes_back_as_it_went(published: Registry) -> None:
    plan = plan_from(
        {"steps": ["shadow:10", 5, 100], "every_s": 2, "guardrails": {"feedback": False}, "shadow_judge": "t"}
    )
    rollout = published.rollouts.start("support", 2, plan, "ann")
    assert published.rollouts.get(rollout.id) == rollout
    assert published.snapshot().rollouts == (rollout,)
    assert rollout.plan == plan


def test_only_the_first_of_two_that_saw_the_same_keeps_its_verdict(
    published: Registry, advance: Callable[[float], None]
) -> None:
    seen = published.rollouts.start("support", 2, JUDGED, "ann")
    assert published.rollouts.record_verdict(seen, HOLD)
    assert not published.rollouts.record_verdict(seen, ABORT)
    again = published.rollouts.get(seen.id)
    assert (again.evidence, again.judged_at) == (HOLD, 1000.0)
    advance(1.0)
    assert published.rollouts.record_verdict(again, ABORT)
    assert len(published.rollouts.events(seen.id)) == 1


def test_an_event_has_the_verdict_that_was_known_when_it_moved(published: Registry) -> None:
    rollout = published.rollouts.start("support", 2, JUDGED, "ann")
    published.rollouts.record_verdict(rollout, HOLD)
    published.rollouts.move(rollout.id, rollout.state, RolloutState.PROGRESSING, reason="loaded")
    published.rollouts.move(
        rollout.id, RolloutState.PROGRESSING, RolloutState.ABORTED, reason="error_rate", evidence=ABORT
    )
    assert [event.evidence for event in published.rollouts.events(rollout.id)] == [None, HOLD, ABORT]


def test_a_promotion_is_taken_back_once(published: Registry, promoted: Rollout) -> None:
    assert published.rollouts.revocable(0.0) == [promoted]
    back = published.rollouts.take_back(promoted, reason="watch_error_rate", message="worse", evidence=ABORT)
    assert (back.canary, back.stable, back.plan, back.actor) == (1, 2, RolloutPlan(steps=weighted(100)), "controller")
    assert published.rollouts.events(back.id)[0].evidence == ABORT
    assert published.rollouts.revocable(0.0) == []
    for _ in range(2):
        with pytest.raises(StaleState):
            published.rollouts.take_back(promoted, reason="watch_error_rate", message="worse", evidence=ABORT)
        if not published.rollouts.get(back.id).state.is_terminal:
            published.rollouts.move(back.id, back.state, RolloutState.ABORTED, reason="requested")


def test_what_was_not_judged_replaced_nothing_or_is_stable_no_more_is_not_taken_back(
    published: Registry, promoted: Rollout
) -> None:
    by_hand = published.rollouts.start("support", 3, RolloutPlan(steps=weighted(100)), "ann")
    with pytest.raises(RolloutOpen):
        published.rollouts.take_back(promoted, reason="watch_error_rate", message="worse", evidence=ABORT)
    published.rollouts.move(by_hand.id, by_hand.state, RolloutState.PROMOTED, reason="loaded")
    assert published.rollouts.revocable(0.0) == []
    with pytest.raises(StaleState):
        published.rollouts.take_back(promoted, reason="watch_error_rate", message="worse", evidence=ABORT)


def test_figures_count_every_move_and_show_the_latest_rollout(published: Registry, promoted: Rollout) -> None:
    latest = published.rollouts.start("support", 3, JUDGED, "ann")
    figures = published.rollouts.figures()
    assert figures.latest == (latest,)
    assert figures.moves == {
        ("support", "pending", "requested"): 2,
        ("support", "progressing", "loaded"): 1,
        ("support", "promoted", "no_violation"): 1,
    }


def test_every_move_is_due_until_it_is_acknowledged_or_given_up(
    published: Registry, promoted: Rollout, advance: Callable[[float], None]
) -> None:
    store = published.rollout_deliveries

    def due() -> list[tuple[str, int]]:
        return [(each.subject.event.state, each.attempts) for each in store.due(since=0.0, max_attempts=2)]

    assert due() == [("pending", 0), ("progressing", 0), ("promoted", 0)]
    first, second, third = store.due(since=0.0, max_attempts=2)
    assert (first.subject.rollout, third.subject.event.evidence) == (promoted, promoted.evidence)
    assert store.claim(first, 1010.0)
    assert not store.claim(first, 1010.0)
    store.record_outcome(first, "")
    assert store.claim(second, 1010.0)
    store.record_outcome(second, "answered 500")
    assert due() == [("promoted", 0)]
    advance(10.0)
    again, _ = store.due(since=0.0, max_attempts=2)
    assert (again.subject.event, again.attempts) == (second.subject.event, 1)
    assert store.claim(again, 1010.0)
    assert not store.claim(again, 1010.0)
    assert due() == [("promoted", 0)]
    assert store.due(since=1000.1, max_attempts=2) == []
