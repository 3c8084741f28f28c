"""Find the state of Lorry that needs a person, and what that person types next. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from gateway.objects.status import DiskStatus, Need, PartStatus
from registry.jobs.job import Job
from registry.jobs.job_state import JobState
from registry.rollouts.rollout import Rollout
from registry.rollouts.rollout_state import RolloutState
from registry.states import ReplicaState, SlotState
from registry.types import Replica

NEWS_S: Final = 86400.0
"""How long a failed job and an aborted rollout are news, unless a later one of the adapter makes them old sooner."""
STARTS_IN_S: Final = 600.0
"""A replica that starts for longer needs a person."""
_BY_HAND: Final = frozenset({"requested", "rollback", "rolled_back"})
"""Reasons of moves that a person asked for."""


def needs_of_replicas(replicas: Sequence[Replica], now: float, *, can_wake: bool = False) -> Iterator[Need]:
    """Yield what is wrong with the replicas that are not gone; none need be ready where a request *can_wake* a pool."""
    if not can_wake and not any(each.state is ReplicaState.READY for each in replicas):
        text = "no replica is ready: no request can be answered"
        yield Need(kind="no_replica", subject="replicas", message=text, command="lorry replicas")
    for each in replicas:
        is_late = each.state is ReplicaState.STARTING and now - each.started_at > STARTS_IN_S
        if each.state is ReplicaState.UNHEALTHY or is_late:
            text = _first_line(each.message) or f"it is {each.state}"
            yield Need(kind="replica_not_ready", subject=each.id, message=text, command="lorry replicas")
    failed = {slot.served_name: slot for each in replicas for slot in each.slots if slot.state is SlotState.FAILED}
    for name, slot in sorted(failed.items()):
        text = f"{slot.reason}: {_first_line(slot.message)}"
        yield Need(kind="adapter_not_proven", subject=name, message=text, command=f"lorry adapters show {name}")


def needs_of_rollouts(rollouts: Iterable[Rollout], now: float) -> Iterator[Need]:
    """Yield what is wrong with *rollouts*, the newest first: of each adapter only the newest one counts."""
    seen: set[str] = set()
    for each in rollouts:
        if each.adapter in seen:
            continue
        seen.add(each.adapter)
        canary, command = f"{each.adapter}@{each.canary}", f"lorry rollout status {each.adapter}"
        if each.state is RolloutState.PAUSED:
            text = f"{canary} holds at {each.canary_weight} % until a person decides"
            yield Need(kind="rollout_paused", subject=each.adapter, message=text, command=command)
        is_news = each.finished_at is not None and now - each.finished_at < NEWS_S
        if each.state is RolloutState.ABORTED and is_news and each.reason not in _BY_HAND:
            text = f"{canary} was aborted, {each.reason}: {_first_line(each.message)}"
            yield Need(kind="rollout_aborted", subject=each.adapter, message=text, command=command)


def needs_of_jobs(jobs: Iterable[Job]) -> Iterator[Need]:
    """Yield the failed jobs of *jobs*, which has the oldest first: of each adapter only the newest job counts."""
    newest = {job.spec.adapter: job for job in jobs}
    for job in newest.values():
        if job.state is JobState.FAILED:
            text = _first_line(job.error.message if job.error else "it failed")
            yield Need(kind="job_failed", subject=job.id, message=text, command=f"lorry jobs logs {job.id}")


def needs_of_machine(
    parts: Iterable[PartStatus], disks: Iterable[DiskStatus], problems: Iterable[str]
) -> Iterator[Need]:
    """Yield what is wrong with the gateway's machine and with the gateway itself."""
    for part in parts:
        if part.is_silent:
            text = "it was not seen at work for two minutes"
            yield Need(kind="part_silent", subject=part.part, message=text, command="lorry status --json")
    for disk in disks:
        if disk.is_low:
            text = f"{disk.free_bytes / 1e9:.1f} GB of {disk.total_bytes / 1e9:.0f} GB are free"
            yield Need(kind="disk_low", subject=disk.path, message=text, command=f"du -sh {disk.path}/*")
    for text in problems:
        yield Need(kind="gateway_failing", subject="gateway", message=text, command="lorry status --json")


def _first_line(text: str) -> str:
    return text.partition("\n")[0]
