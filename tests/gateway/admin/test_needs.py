"""The list of needs has the replicas, adapters, rollouts, jobs and disks that a person has to see to, no others."""

from __future__ import annotations

from dataclasses import replace

from gateway.admin.needs import NEWS_S, STARTS_IN_S, needs_of_machine, needs_of_replicas, needs_of_rollouts
from gateway.objects.status import DiskStatus, PartStatus
from registry.rollouts.rollout import Rollout, RolloutPlan, weighted
from registry.rollouts.rollout_state import RolloutState
from registry.states import ReplicaState, SlotState
from registry.types import Replica, Slot
from tests.gateway.replica_rows import replica_row

NOW = 1_000_000.0
READY = replica_row(
    "r1", slots=(Slot(served_name="support@1", state=SlotState.READY),), started_at=NOW - 10, heartbeat_at=NOW
)
ABORTED = Rollout(
    id="ro-1",
    adapter="support",
    canary=2,
    stable=1,
    plan=RolloutPlan(steps=weighted(5, 100)),
    step=0,
    state=RolloutState.ABORTED,
    reason="error_rate",
    message="the canary fails more often",
    actor="judge",
    created_at=NOW - 100,
    step_since=NOW - 90,
    finished_at=NOW - 50,
    evidence=None,
    judged_at=None,
)


def kinds_of(*replicas: Replica) -> list[tuple[str, str]]:
    return [(need.kind, need.subject) for need in needs_of_replicas(replicas, NOW)]


def test_a_replica_that_serves_needs_nobody_and_one_that_does_not_is_named() -> None:
    assert kinds_of(READY) == []
    assert kinds_of() == [("no_replica", "replicas")]
    starting = replace(READY, id="r2", state=ReplicaState.STARTING)
    assert kinds_of(READY, starting) == []
    assert kinds_of(READY, replace(starting, started_at=NOW - STARTS_IN_S - 1)) == [("replica_not_ready", "r2")]
    ill = replace(READY, id="r2", state=ReplicaState.UNHEALTHY, message="exited with code 1; log:\nlong")
    assert kinds_of(READY, ill) == [("replica_not_ready", "r2")]
    assert next(needs_of_replicas((READY, ill), NOW)).message == "exited with code 1; log:"


def test_an_adapter_that_is_not_proven_is_named_once() -> None:
    slot = Slot(served_name="support@2", state=SlotState.FAILED, reason="fingerprint_mismatch", message="differs")
    two = (replace(READY, slots=(slot,)), replace(READY, id="r2", slots=(slot,)))
    [need] = needs_of_replicas(two, NOW)
    assert (need.kind, need.subject) == ("adapter_not_proven", "support@2")
    assert need.command == "lorry adapters show support@2"


def test_a_rollout_that_aborted_by_itself_is_news_until_a_later_one_or_a_day() -> None:
    [need] = needs_of_rollouts([ABORTED], NOW)
    assert (need.kind, need.subject, need.command) == ("rollout_aborted", "support", "lorry rollout status support")
    later = replace(ABORTED, id="ro-2", state=RolloutState.PROMOTED, reason="no_violation")
    assert list(needs_of_rollouts([later, ABORTED], NOW)) == []
    assert list(needs_of_rollouts([ABORTED], NOW + NEWS_S)) == []
    assert list(needs_of_rollouts([replace(ABORTED, reason="requested")], NOW)) == []
    [paused] = needs_of_rollouts([replace(ABORTED, state=RolloutState.PAUSED, finished_at=None)], NOW)
    assert paused.kind == "rollout_paused"


def test_a_silent_part_a_full_disk_and_a_failing_loop_are_named() -> None:
    part = PartStatus(part="trainer", seen_at=0.0, is_silent=True)
    disk = DiskStatus(path="/data", free_bytes=1_000_000_000, total_bytes=100_000_000_000, is_low=True)
    found = list(needs_of_machine([part], [disk], ["the loop routes fails"]))
    assert [need.kind for need in found] == ["part_silent", "disk_low", "gateway_failing"]
    calm = needs_of_machine([part.model_copy(update={"is_silent": False})], [], [])
    assert list(calm) == []
