"""An adapter has at most one open rollout, and every move is compare-and-set, with its event."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest

from registry.database import Registry
from registry.errors import IllegalMove, NotFound, NotServable, RegistryError, RolloutOpen, StaleState
from registry.rollouts.rollout import Rollout, RolloutPlan, weighted
from registry.rollouts.rollout_state import MOVES, RolloutState

PLAN = RolloutPlan(steps=weighted(5, 25, 100), every_s=60.0)


@pytest.fixture
def rollout(published: Registry) -> Rollout:
    return published.rollouts.start("support", 2, PLAN, "ann")


def bring(registry: Registry, rollout: Rollout, to: RolloutState) -> Rollout:
    """Move a pending rollout to any state over legal moves."""
    ways: dict[RolloutState, tuple[RolloutState, ...]] = {
        RolloutState.PENDING: (),
        RolloutState.PROGRESSING: (RolloutState.PROGRESSING,),
        RolloutState.PAUSED: (RolloutState.PROGRESSING, RolloutState.PAUSED),
        RolloutState.PROMOTED: (RolloutState.PROMOTED,),
        RolloutState.ABORTED: (RolloutState.ABORTED,),
    }
    for state in ways[to]:
        rollout = registry.rollouts.move(rollout.id, rollout.state, state, reason="way")
    return rollout


def test_a_rollout_runs_through_its_steps_to_stable(
    published: Registry, rollout: Rollout, advance: Callable[[float], None]
) -> None:
    store = published.rollouts
    assert (rollout.state, rollout.stable, rollout.canary_weight) == (RolloutState.PENDING, 1, 0)
    advance(10)
    loaded = store.move(rollout.id, RolloutState.PENDING, RolloutState.PROGRESSING, reason="canary_ready")
    assert (loaded.canary_weight, loaded.step_since - rollout.step_since) == (5, 10)
    advance(60)
    assert store.advance(rollout.id, 0, reason="step_held", actor="controller").canary_weight == 25
    advance(60)
    done = store.move(rollout.id, RolloutState.PROGRESSING, RolloutState.PROMOTED, reason="all_steps_held")
    assert done.finished_at == done.step_since + 60
    adapter = published.adapters.get("support")
    assert (adapter.stable, adapter.previous_stable, adapter.stable_since) == (2, 1, done.finished_at)
    events = [(event.state, event.step, event.reason, event.actor) for event in store.events(rollout.id)]
    assert events == [
        (RolloutState.PENDING, 0, "requested", "ann"),
        (RolloutState.PROGRESSING, 0, "canary_ready", "controller"),
        (RolloutState.PROGRESSING, 1, "step_held", "controller"),
        (RolloutState.PROMOTED, 1, "all_steps_held", "controller"),
    ]
    assert [entry.action for entry in published.audit.list(limit=2)] == ["rollout.promoted", "rollout.advance"]


@pytest.mark.long
def test_a_move_happens_exactly_if_the_table_allows_it(published: Registry) -> None:
    for before, to in product(RolloutState, RolloutState):
        canary = 3 if published.adapters.get("support").stable == 2 else 2
        at = bring(published, published.rollouts.start("support", canary, PLAN, "ann"), before)
        events = len(published.rollouts.events(at.id))
        if to in MOVES[before]:
            at = published.rollouts.move(at.id, before, to, reason="test")
            assert (at.state, len(published.rollouts.events(at.id))) == (to, events + 1)
        else:
            with pytest.raises(IllegalMove, match=before):
                published.rollouts.move(at.id, before, to, reason="test")
            assert (published.rollouts.get(at.id), len(published.rollouts.events(at.id))) == (at, events)
        if not at.state.is_terminal:
            published.rollouts.move(at.id, at.state, RolloutState.ABORTED, reason="test")


def test_an_aborted_rollout_leaves_stable_as_it_was(published: Registry, rollout: Rollout) -> None:
    before = published.adapters.get("support")
    moved = published.rollouts.move(
        rollout.id, RolloutState.PENDING, RolloutState.ABORTED, reason="canary_failed", message="engine said no"
    )
    assert (moved.reason, moved.message, moved.canary_weight) == ("canary_failed", "engine said no", 0)
    assert published.adapters.get("support") == before
    assert published.rollouts.open_for("support") is None


def test_a_second_rollout_is_refused_while_one_is_open(published: Registry, rollout: Rollout) -> None:
    assert published.rollouts.open_for("support") == rollout
    with pytest.raises(RolloutOpen, match=f"{rollout.id}.*support@2.*pending"):
        published.rollouts.start("support", 3, PLAN, "bob")
    bring(published, rollout, RolloutState.ABORTED)
    assert published.rollouts.start("support", 3, PLAN, "bob").canary == 3
    assert [listed.canary for listed in published.rollouts.list()] == [3, 2]
    with pytest.raises(NotFound, match="no adapter 'sales'; there are: support"):
        published.rollouts.list("sales")


def test_what_cannot_be_rolled_out_is_refused(published: Registry) -> None:
    with pytest.raises(NotFound, match="sales"):
        published.rollouts.start("sales", 1, PLAN, "ann")
    with pytest.raises(NotFound, match="support@9"):
        published.rollouts.start("support", 9, PLAN, "ann")
    with pytest.raises(NotServable, match="stable revision already"):
        published.rollouts.start("support", 1, PLAN, "ann")
    with pytest.raises(NotFound, match="ro-none"):
        published.rollouts.events("ro-none")


def test_a_step_is_taken_once_and_never_past_the_last(published: Registry, rollout: Rollout) -> None:
    bring(published, rollout, RolloutState.PROGRESSING)
    published.rollouts.advance(rollout.id, 0, reason="step_held", actor="controller")
    with pytest.raises(StaleState, match="step 1"):
        published.rollouts.advance(rollout.id, 0, reason="step_held", actor="controller")
    published.rollouts.advance(rollout.id, 1, reason="step_held", actor="controller")
    with pytest.raises(IllegalMove, match="no step after 2"):
        published.rollouts.advance(rollout.id, 2, reason="step_held", actor="controller")


def test_a_paused_rollout_does_not_advance(published: Registry, rollout: Rollout) -> None:
    bring(published, rollout, RolloutState.PAUSED)
    with pytest.raises(StaleState, match="paused"):
        published.rollouts.advance(rollout.id, 0, reason="step_held", actor="controller")


def outcomes(*attempts: Callable[[], object]) -> list[str]:
    """The outcome of each of the attempts, made at once: `done` or the name of its error."""

    def come_to(attempt: Callable[[], object]) -> str:
        try:
            attempt()
        except RegistryError as exc:
            return type(exc).__name__
        return "done"

    with ThreadPoolExecutor(len(attempts)) as threads:
        return sorted(threads.map(come_to, attempts))


def test_of_two_moves_at_once_one_wins(published: Registry, rollout: Rollout) -> None:
    bring(published, rollout, RolloutState.PROGRESSING)
    came_to = outcomes(
        *(
            lambda to=to: published.rollouts.move(rollout.id, RolloutState.PROGRESSING, to, reason="race")
            for to in (RolloutState.PROMOTED, RolloutState.ABORTED, RolloutState.PAUSED)
        )
    )
    assert came_to == ["StaleState", "StaleState", "done"]
    state = published.rollouts.get(rollout.id).state
    assert published.rollouts.events(rollout.id)[-1].state is state
    assert (published.adapters.get("support").stable == 2) == (state is RolloutState.PROMOTED)


def test_of_two_starts_at_once_one_wins(published: Registry) -> None:
    came_to = outcomes(
        *(lambda number=number: published.rollouts.start("support", number, PLAN, "ann") for number in (2, 3, 2, 3))
    )
    assert came_to == ["RolloutOpen"] * 3 + ["done"]
    assert len(published.rollouts.list()) == 1
