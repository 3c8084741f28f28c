"""Replicas are what they last reported, and gone when they stop reporting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from registry.database import Registry
from registry.errors import NotFound
from registry.replicas import GONE_KEPT_S
from registry.types import Replica, ReplicaState, Slot, SlotState
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
