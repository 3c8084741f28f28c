"""Revisions never change, and only a revision that is not in use can be retired."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.database import Registry
from registry.errors import NotFound, NotServable
from registry.rollouts.rollout import RolloutPlan, weighted
from registry.rollouts.rollout_state import RolloutState
from registry.states import RevisionState


def test_revisions_are_found_by_number(published: Registry) -> None:
    assert [revision.number for revision in published.adapters.revisions("support")] == [3, 2, 1]
    pinned = published.adapters.revision("support", 2)
    assert (pinned.served_name, pinned.alias) == ("support@2", "ft:tiny:acme:support:2")
    assert (pinned.rank, pinned.target_modules) == (2, ("q_proj", "v_proj"))


def test_what_was_never_published_is_not_found(published: Registry) -> None:
    for look in (
        lambda: published.adapters.get("sales"),
        lambda: published.adapters.revisions("sales"),
        lambda: published.adapters.revision("support", 4),
        lambda: published.adapters.retire("support", 4, "ann"),
    ):
        with pytest.raises(NotFound):
            look()


def test_a_retired_revision_stays_on_record_and_is_never_rolled_out(published: Registry) -> None:
    assert published.adapters.retire("support", 3, "ann").state is RevisionState.RETIRED
    assert published.adapters.revision("support", 3).state is RevisionState.RETIRED
    with pytest.raises(NotServable, match="retired"):
        published.rollouts.start("support", 3, RolloutPlan(steps=weighted(100)), "ann")
    with pytest.raises(NotServable, match="retired already"):
        published.adapters.retire("support", 3, "ann")
    assert [entry.action for entry in published.audit.list(limit=1)] == ["revision.retire"]


def test_the_stable_revision_and_both_sides_of_an_open_rollout_cannot_be_retired(published: Registry) -> None:
    with pytest.raises(NotServable, match="stable"):
        published.adapters.retire("support", 1, "ann")
    rollout = published.rollouts.start("support", 2, RolloutPlan(steps=weighted(50, 100)), "ann")
    with pytest.raises(NotServable, match=rollout.id):
        published.adapters.retire("support", 2, "ann")
    published.rollouts.move(rollout.id, RolloutState.PENDING, RolloutState.ABORTED, reason="requested")
    assert published.adapters.retire("support", 2, "ann").state is RevisionState.RETIRED


def test_only_one_revision_becomes_the_first_stable_one(published: Registry) -> None:
    assert not published.adapters.set_first_stable("support", 2, reason="first_revision")
    assert published.adapters.get("support").stable == 1


def test_a_retired_revision_cannot_become_the_first_stable_one(published: Registry) -> None:
    published.adapters.retire("support", 2, "ann")
    with pytest.raises(NotServable, match="retired"):
        published.adapters.set_first_stable("support", 2, reason="first_revision")


def test_a_revision_is_never_retired_and_rolled_out_at_once(published: Registry) -> None:
    def retire() -> bool:
        try:
            published.adapters.retire("support", 2, "ann")
        except NotServable:
            return False
        return True

    def start() -> bool:
        try:
            published.rollouts.start("support", 2, RolloutPlan(steps=weighted(100)), "bob")
        except NotServable:
            return False
        return True

    with ThreadPoolExecutor() as threads:
        retired, started = threads.submit(retire), threads.submit(start)
    assert retired.result() != started.result()


def test_a_snapshot_reads_each_revision_once_and_forgets_what_is_retired(published: Registry) -> None:
    before = {each.number: each for each in published.snapshot().revisions}
    published.adapters.retire("support", 3, "ann")
    after = {each.number: each for each in published.snapshot().revisions}
    assert after.keys() == before.keys() - {3}
    assert all(after[number] is before[number] for number in after)
    base = after[1].base
    assert {each.number for each in published.placement_snapshot(base, base).revisions} == after.keys()
    assert published.placement_snapshot("other", "other").revisions == ()
