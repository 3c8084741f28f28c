"""Changes of the tables behind the routes are counted, and tables are read again only after a change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from registry.changes import COUNTED, REPLICA_PLACES, FileChanges
from registry.database import Registry, open_registry
from registry.errors import NotFound
from registry.keys import KeyDraft, Scope
from registry.liveness.sleeping_pools import SleepingPool
from registry.publishing.publish import publish
from registry.rollouts.rollout import RolloutPlan, weighted
from registry.rollouts.tally import Side
from registry.settings import RegistrySettings
from registry.states import ReplicaState
from registry.types import Base, RevisionDraft, ServedCheckpointDraft
from tests.registry.serving.test_replicas import REPLICA, SLOTS
from tests.waiting import wait_for

PARTS = {
    "adapters": "adapters",
    "bases": "bases",
    "forced_sides": "forced",
    "revisions": "revisions",
    "rollouts": "rollouts",
    "served_checkpoints": "checkpoints",
    "checkpoint_permissions": "permissions",
    "sleeping_pools": "sleeping_pools",
}


@pytest.fixture
def filled(registry: Registry, base: Base, make_adapter: Callable[..., Path]) -> Registry:
    registry.bases.enter(base)
    for seed in (1, 2):
        step = ServedCheckpointDraft(step=5, alias=f"ckpt-{seed}", folder=None, expires_at=None)
        draft = RevisionDraft(adapter="support", base=base.name, owner="me", checkpoints=(step,))
        publish(registry, make_adapter(seed), draft)
    registry.adapters.set_first_stable("support", 1, "first_revision")
    registry.replicas.report(REPLICA)
    registry.keys.create(KeyDraft(name="root", scopes=frozenset(Scope)), "me")
    registry.forced_sides.put("support", "me", Side.CANARY, "me")
    registry.permissions.create("support@1", ["acme"], "me")
    registry.owners.change("support", tenant="me", is_shared=False, actor="me")
    registry.uses.await_revision("g1", "support@2", 1)
    registry.sleeping_pools.enter(SleepingPool(name="night", base=base.name, engine="vllm"))
    return registry


def changed_by(registry: Registry, write: Callable[[], object]) -> set[str]:
    before = registry.changes()
    write()
    after = registry.changes()
    return {name for name in after if after[name] != before.get(name)}


def test_every_write_is_counted_by_its_tables(filled: Registry) -> None:
    plan = RolloutPlan(steps=weighted(50, 100))
    assert changed_by(filled, lambda: filled.rollouts.start("support", 2, plan, actor="me")) == {"rollouts"}
    assert changed_by(filled, lambda: filled.forced_sides.delete("support", "me", "me")) == {"forced_sides"}
    assert changed_by(filled, lambda: filled.replicas.mark_gone(REPLICA.id)) == {"replicas", REPLICA_PLACES}
    assert changed_by(filled, lambda: filled.uses.await_revision("g1", "support@2", 1)) == {"revision_uses"}
    assert set(filled.changes()) == COUNTED


def test_what_is_rolled_back_is_not_counted(filled: Registry) -> None:
    def fail() -> None:
        with pytest.raises(NotFound):
            filled.replicas.mark_gone("nobody")

    assert changed_by(filled, fail) == set()
    assert changed_by(filled, lambda: filled.uses.record("g1", {"support@1": 1})) == set()


def test_a_heartbeat_is_no_change_and_what_a_replica_says_otherwise_is(
    filled: Registry, advance: Callable[[float], None]
) -> None:
    advance(5)
    assert changed_by(filled, lambda: filled.replicas.report(replace(REPLICA, load=9))) == set()
    stored = filled.replicas.get(REPLICA.id)
    assert (stored.load, stored.heartbeat_at) == (9, filled.transactions.now())
    assert filled.snapshot().replicas == (stored,)
    assert changed_by(filled, lambda: filled.replicas.report(replace(REPLICA, slots=SLOTS))) == {"replicas"}
    assert filled.snapshot().replicas[0].slots == SLOTS


def test_a_replica_that_was_silent_for_too_long_is_back_with_its_next_heartbeat(
    filled: Registry, advance: Callable[[float], None]
) -> None:
    filled.replicas.expire(10.0)
    advance(60)
    assert changed_by(filled, lambda: filled.replicas.expire(10.0)) == {"replicas", REPLICA_PLACES}
    assert filled.snapshot().replicas == ()
    assert changed_by(filled, lambda: filled.replicas.report(REPLICA)) == {"replicas", REPLICA_PLACES}
    assert [each.state for each in filled.snapshot().replicas] == [ReplicaState.STARTING]


def test_nothing_is_counted_where_nothing_expires(filled: Registry) -> None:
    assert changed_by(filled, lambda: filled.replicas.expire(10.0)) == set()


def test_parts_that_did_not_change_are_the_same_objects(filled: Registry) -> None:
    one = filled.snapshot()
    assert filled.snapshot() == one
    filled.forced_sides.delete("support", "me", "me")
    two = filled.snapshot()
    assert two.forced == ()
    same = {name for name, part in PARTS.items() if getattr(two, part) is getattr(one, part)}
    assert same == PARTS.keys() - {"forced_sides"}


def test_the_numbers_are_known_at_once_and_what_others_write_is_seen(filled: Registry) -> None:
    wait_for(lambda: filled.changes_at_once() == filled.changes())
    for number in range(3):
        filled.owners.change("support", tenant=f"tenant-{number}", is_shared=False, actor="me")
        # a server's notification takes its way; until it comes, what was known before is returned
        wait_for(lambda: filled.changes_at_once() in (None, filled.changes()))
        wait_for(lambda: filled.changes() and filled.changes_at_once() == filled.changes())


def test_a_reading_that_began_before_a_notification_is_not_kept(postgres_settings: RegistrySettings) -> None:
    registry = open_registry(postgres_settings)
    prompt = registry.transactions.prompt_changes
    assert prompt.read() is None
    before, begun = registry.changes(), prompt.begin()
    registry.keys.create(KeyDraft(name="root", scopes=frozenset(Scope)), "me")
    wait_for(lambda: prompt.read() is None)
    prompt.keep(before, begun)
    assert prompt.read() is None
    assert registry.changes() != before
    registry.close()


def test_a_file_that_cannot_be_read_at_once_is_not_waited_for(tmp_path: Path) -> None:
    assert FileChanges(str(tmp_path / "none.db")).read() is None
    assert not (tmp_path / "none.db").exists()


def test_keys_are_counted_when_they_come_and_go_and_not_when_they_are_used(filled: Registry) -> None:
    made: list[str] = []
    create = partial(filled.keys.create, KeyDraft(name="app", scopes=frozenset({Scope.ADMIN})), "me")
    assert changed_by(filled, lambda: made.append(create().key.id)) == {"keys"}
    assert changed_by(filled, lambda: filled.keys.note_use({made[0]: 1.0})) == set()
    assert changed_by(filled, lambda: filled.keys.revoke(made[0], "me")) == {"keys"}
