"""Replicas are what they last reported, and gone when they stop reporting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import sqlalchemy as sa

from registry.changes import REPLICA_PLACES
from registry.database import Registry
from registry.errors import NotFound
from registry.serving.replica_store import GONE_KEPT_S
from registry.states import ReplicaState, SlotState
from registry.types import Replica, Slot
from tests.clock import Clock

REPLICA = Replica(
    id="host/1",
    base="tiny",
    engine="transformers",
    url="http://127.0.0.1:9000",
    state=ReplicaState.STARTING,
    capacity=4,
    slots=(),
    message="",
    started_at=999.0,
    heartbeat_at=0.0,
)
SLOTS = (
    Slot(served_name="support@1", state=SlotState.READY),
    Slot(served_name="support@2", state=SlotState.FAILED, message="rank too high"),
)


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """The statements of all databases since the list was cleared."""
    texts: list[str] = []

    def note(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        texts.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    yield texts
    sa.event.remove(sa.Engine, "before_cursor_execute", note)


def test_a_report_replaces_the_one_before(registry: Registry, advance: Callable[[float], None]) -> None:
    registry.replicas.report(REPLICA)
    advance(5)
    ready = replace(REPLICA, state=ReplicaState.READY, slots=SLOTS)
    registry.replicas.report(ready)
    assert registry.replicas.list() == [replace(ready, heartbeat_at=1005.0)]
    assert registry.replicas.get("host/1").slots == SLOTS
    assert registry.snapshot().replicas == (replace(ready, heartbeat_at=1005.0),)


def test_a_replica_that_falls_silent_is_gone_until_it_reports_again(
    registry: Registry, advance: Callable[[float], None]
) -> None:
    registry.replicas.report(replace(REPLICA, slots=SLOTS))
    registry.replicas.report(replace(REPLICA, id="host/2"))
    assert registry.replicas.expire(older_than_s=10) == []
    advance(8)
    registry.replicas.report(replace(REPLICA, id="host/2"))
    advance(3)
    assert registry.replicas.expire(older_than_s=10) == ["host/1"]
    assert registry.replicas.expire(older_than_s=10) == []
    gone = registry.replicas.get("host/1")
    assert (gone.state, gone.slots, gone.message) == (ReplicaState.GONE, (), "no heartbeat for 10 s")
    assert [replica.id for replica in registry.snapshot().replicas] == ["host/2"]
    registry.replicas.report(REPLICA)
    assert len(registry.snapshot().replicas) == 2


@pytest.mark.parametrize("seconds", [7200.0, -7200.0])
def test_a_clock_that_jumps_removes_no_replica_and_keeps_none(registry: Registry, clock: Clock, seconds: float) -> None:
    registry.replicas.report(REPLICA)
    assert registry.replicas.expire(older_than_s=10) == []
    clock.jump(seconds)
    clock.advance(9)
    assert registry.replicas.expire(older_than_s=10) == []
    clock.advance(2)
    assert registry.replicas.expire(older_than_s=10) == ["host/1"]


def test_a_replica_that_leaves_says_so(registry: Registry) -> None:
    registry.replicas.report(REPLICA)
    registry.replicas.mark_gone("host/1")
    assert registry.replicas.get("host/1").state is ReplicaState.GONE
    with pytest.raises(NotFound):
        registry.replicas.mark_gone("host/9")
    with pytest.raises(NotFound):
        registry.replicas.get("host/9")


def test_a_replica_that_went_long_ago_is_forgotten(registry: Registry, advance: Callable[[float], None]) -> None:
    registry.replicas.report(REPLICA)
    registry.replicas.mark_gone("host/1")
    registry.replicas.expire(older_than_s=10)
    assert len(registry.replicas.list()) == 1
    advance(GONE_KEPT_S + 1)
    registry.replicas.expire(older_than_s=10)
    assert registry.replicas.list() == []


def test_of_a_large_fleet_only_the_rows_that_changed_are_read(registry: Registry, statements: list[str]) -> None:
    for number in range(3):
        registry.replicas.report(replace(REPLICA, id=f"host/{number}", slots=SLOTS))
    before = registry.snapshot().replicas
    registry.replicas.report(replace(REPLICA, id="host/1", state=ReplicaState.READY, slots=SLOTS))
    statements.clear()
    after = registry.snapshot().replicas
    assert [each.state for each in after] == [ReplicaState.STARTING, ReplicaState.READY, ReplicaState.STARTING]
    assert (after[0].slots is before[0].slots, after[1].slots is before[1].slots) == (True, False)
    with_slots = [text for text in statements if "slots" in text]
    assert len(with_slots) == 1
    assert "IN (" in with_slots[0]


def test_slots_alone_concern_no_placement(registry: Registry) -> None:
    registry.replicas.report(REPLICA)
    before = registry.changes()
    registry.replicas.report(replace(REPLICA, slots=SLOTS))
    loaded = registry.changes()
    assert loaded["replicas"] > before["replicas"]
    assert loaded[REPLICA_PLACES] == before[REPLICA_PLACES]
    registry.replicas.report(replace(REPLICA, slots=SLOTS, state=ReplicaState.READY))
    assert registry.changes()[REPLICA_PLACES] > before[REPLICA_PLACES]


def test_placement_reads_the_replicas_of_its_own_base_model(registry: Registry) -> None:
    registry.replicas.report(REPLICA)
    registry.replicas.report(replace(REPLICA, id="host/2", base="other"))
    assert [each.id for each in registry.placement_snapshot("tiny", "tiny").replicas] == ["host/1"]
    assert [each.id for each in registry.placement_snapshot("other", "other").replicas] == ["host/2"]
    assert len(registry.snapshot().replicas) == 2
