"""From a published revision to replicas that serve it: loading, proving, ready or refused."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from gateway.cli.client import Client
from gateway.cli.following.live_line import LiveLine
from gateway.objects.jobs import JobObject
from gateway.objects.lists import ObjectList
from gateway.objects.operations import NamedSlot, ReplicaObject
from registry.states import ReplicaState, SlotState

_POLL_S: Final = 0.25
_BEGIN_S: Final = 2.0
"""How long no replica may have begun; placement leaves out a revision for which no replica has a place."""
_SETTLED_S: Final = 1.0
"""Replicas begin one after another, so all that have begun must stay done for so long."""


def show_serving(client: Client, job: JobObject, line: LiveLine) -> None:
    """Show how replicas load and prove the revision that *job* published, until they are done with it."""
    if job.lorry.revision is None:
        return
    name, since = job.lorry.revision, time.monotonic()
    done_since: float | None = None
    while True:
        replicas = [
            each for each in client.get("/admin/replicas", ObjectList[ReplicaObject]).data if _serves(each, job)
        ]
        slots = slots_of(name, replicas)
        now = time.monotonic()
        if not replicas or (not slots and now - since > _BEGIN_S):
            return
        is_done = bool(slots) and all(slot.state in (SlotState.READY, SlotState.FAILED) for slot in slots)
        done_since = (done_since or now) if is_done else None
        if done_since is not None and (len(slots) == len(replicas) or now - done_since > _SETTLED_S):
            line.print(f"{time.strftime('%H:%M:%S')}  {outcome_of(name, slots)}")
            return
        line.show(serving_text(name, slots, len(replicas)))
        time.sleep(_POLL_S)


def slots_of(name: str, replicas: Sequence[ReplicaObject]) -> list[NamedSlot]:
    """Return what the replicas report of the revision."""
    return [slot for replica in replicas for slot in replica.slots if slot.served_name == name]


def serving_text(name: str, slots: Sequence[NamedSlot], replicas: int) -> str:
    """Return what the replicas do with the revision: `proving support@2 on 1 of 2 replicas`."""
    counts = Counter(slot.state for slot in slots)
    of = f"of {replicas} replica{'s' if replicas > 1 else ''}"
    for state, doing in ((SlotState.PROVING, "proving"), (SlotState.LOADING, "loading")):
        if counts[state]:
            ready = f", {counts[SlotState.READY]} ready" if counts[SlotState.READY] else ""
            return f"{doing} {name} on {counts[state]} {of}{ready}"
    return f"waiting for a replica to load {name}"


def outcome_of(name: str, slots: Sequence[NamedSlot]) -> str:
    """Return how it went on the replicas that tried."""
    ready = sum(slot.state is SlotState.READY for slot in slots)
    if failed := [slot for slot in slots if slot.state is SlotState.FAILED]:
        return (
            f"{name} is not served by {len(failed)} of {len(slots)} replicas: {failed[0].message or failed[0].reason}"
        )
    return f"{name} is proven and served by {ready} replica{'s' if ready > 1 else ''}"


def _serves(replica: ReplicaObject, job: JobObject) -> bool:
    return replica.base == job.model and replica.state in (ReplicaState.STARTING, ReplicaState.READY)
