"""After a controller is killed with -9 between any two steps, another one continues to the same end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from itertools import count as counting

import pytest

from registry.database import Registry
from registry.rollouts.guardrail_names import Guardrail
from registry.rollouts.guardrails import guardrails_from
from registry.rollouts.rollout import Rollout, RolloutPlan, weighted
from tests.clock import Clock
from tests.gateway.stage import bad, count, good, report, story
from tests.registry.doomed import keep_reconciling

pytestmark = pytest.mark.killed
KILLED = -signal.SIGKILL
TICKS = 4
"""Load and begin, one step, promote, take back."""
ERRORS_ONLY = guardrails_from({str(each): False for each in Guardrail if each is not Guardrail.ERROR_RATE})
PLAN = RolloutPlan(steps=weighted(5, 25, 100), guardrails=ERRORS_ONLY)
PROMOTED = [
    ("pending", 0, "requested"),
    ("progressing", 0, "loaded"),
    ("progressing", 1, "no_violation"),
    ("promoted", 1, "no_violation"),
]
TAKEN_BACK = [("pending", 0, "watch_error_rate"), ("promoted", 0, "loaded")]
ABORTED = [*PROMOTED[:2], ("aborted", 0, "error_rate")]


def begin(registry: Registry, *, is_bad_at: int) -> Rollout:
    """A rollout of `support@2` for which everything is counted already; its canary turns bad at this step."""
    report(registry, "r1", "support@1", "support@2")
    rollout = registry.rollouts.start("support", 2, PLAN, "me")
    for step in range(len(PLAN.steps) + 1):
        canary = bad(400) if step == is_bad_at else good(1000)
        count(registry, rollout, step, canary, good(1000) if step < len(PLAN.steps) else None)
    return rollout


def end_of(
    registry: Registry, clock: Clock, doom: Callable[..., int], rollout: Rollout, point: int
) -> tuple[int, list[list[tuple[str, int, str]]]]:
    """The fate of the first controller, and the stories that the second one left."""
    status = doom(action="reconcile", at=clock.at, ticks=TICKS, point=point, calls=["commit"])
    clock.advance(2 * TICKS)
    keep_reconciling(registry, clock, TICKS)
    stories = []
    for each in registry.rollouts.list("support"):
        stories.append(story(registry, each.id))
        if each.id == rollout.id:
            break
    return status, stories[::-1]


def step_of(registry: Registry) -> int:
    """Return how many points to go on: to the next commit on SQLite, to some of them on PostgreSQL.

    A commit has four points on SQLite. A death just after one commit leaves what a death before the next one leaves:
    a controller changes nothing but the registry.
    """
    with registry.transactions.read() as tx:
        return 4 if tx.dialect.name == "sqlite" else 9


def test_killed_before_any_commit_a_promotion_and_its_way_back_happen_once(
    published: Registry, clock: Clock, doom: Callable[..., int]
) -> None:
    for point in counting(0, step_of(published)):
        rollout = begin(published, is_bad_at=len(PLAN.steps))
        status, stories = end_of(published, clock, doom, rollout, point)
        assert stories == [PROMOTED, TAKEN_BACK]
        assert published.adapters.get("support").stable == 1
        if status == 0:
            break
        assert status == KILLED
    assert point > 10


def test_killed_before_any_commit_an_abort_happens_once(
    published: Registry, clock: Clock, doom: Callable[..., int]
) -> None:
    for point in counting(0, step_of(published)):
        rollout = begin(published, is_bad_at=0)
        status, stories = end_of(published, clock, doom, rollout, point)
        assert stories == [ABORTED]
        assert published.adapters.get("support").stable == 1
        if status == 0:
            break
        assert status == KILLED
    assert point > 3
