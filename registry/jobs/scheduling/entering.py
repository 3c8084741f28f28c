"""The entry of a new job into the queue."""

from __future__ import annotations

from collections.abc import Mapping
from secrets import token_hex
from typing import Final

import sqlalchemy as sa

from registry import tables
from registry.contracts.job_spec import JobSpec
from registry.errors import JobTooLarge
from registry.jobs.adapter_owners import Claim, claim_adapter
from registry.jobs.durations import expected_duration
from registry.jobs.job import Job
from registry.jobs.job_moves import JobNote, add_note, find_job
from registry.jobs.job_state import JobState
from registry.jobs.scheduling.dependencies import check_dependencies, enter_dependencies
from registry.jobs.scheduling.room import NO_ENTRY, QueueEntry, can_hold_some
from registry.jobs.scheduling.worker_store import workers_of
from registry.states import Priority

PLACES: Final[Mapping[Priority, int]] = {priority: place for place, priority in enumerate(Priority)}
"""Priority -> its place in the queue; a lower one is claimed first."""
_GB: Final = 1e9


def queue_job(  # noqa: PLR0913  the facts of a row, of which the last has a default
    tx: sa.Connection, spec: JobSpec, owner: str, at: float, claim: Claim, entry: QueueEntry = NO_ENTRY
) -> Job:
    """Insert a queued job of any kind and return it.

    `NameTaken` if its adapter is not for the claim's tenant, `DependencyRefused`, or `JobTooLarge`.
    """
    claim_adapter(tx, spec.adapter, claim, at)
    check_dependencies(tx, entry.after, None if claim.may_take_any else claim.tenant)
    notes = _check_room(tx, entry)
    job_id = f"{spec.id_prefix}-{token_hex(12)}"
    row = {
        "id": job_id,
        "spec": spec.model_dump(mode="json"),
        "state": JobState.QUEUED,
        "owner": owner,
        "priority": PLACES[spec.queue_priority()],
        "tenant": claim.tenant,
        "attempt": 0,
        "cancel_requested": False,
        "pause_requested": False,
        "base_digest": spec.base_digest,
        "is_light": spec.is_light(),
        "needed_bytes": entry.needed_bytes,
        "shared_bytes": entry.shared_bytes,
        "expected_s": entry.expected_s if entry.expected_s is not None else _earlier_s(tx, spec),
        "created_at": at,
        "queued_at": at,
    }
    tx.execute(sa.insert(tables.jobs).values(row))
    enter_dependencies(tx, job_id, entry.after)
    if entry.after:
        notes.append(f"Waits until {', '.join(entry.after)} succeeded")
    for message in (f"Created {spec.noun} job: {job_id}", *spec.remarks(), *notes):
        add_note(tx, job_id, JobNote(message=message), at)
    return find_job(tx, job_id)


def _earlier_s(tx: sa.Connection, spec: JobSpec) -> float | None:
    earlier = expected_duration(tx, spec)
    return None if earlier is None else earlier.seconds


def _check_room(tx: sa.Connection, entry: QueueEntry) -> list[str]:
    """Return what is to be noted of the room for the job; `JobTooLarge` if no worker could ever hold it."""
    if entry.needed_bytes is None:
        return []
    workers = workers_of(tx)
    if not workers:
        return [
            f"The job needs about {entry.needed_bytes / _GB:.2f} GB of a device; no worker of the trainer is known "
            "yet, so whether one has as much is found out when one reports"
        ]
    if not can_hold_some(workers, entry.needed_bytes):
        # The message goes to any tenant, so it has no names of machines.
        sizes = sorted({(each.device, each.total_bytes or 0) for each in workers})
        has = ", ".join(f"{device} has {total / _GB:.2f} GB" for device, total in sizes)
        raise JobTooLarge(
            f"the job needs about {entry.needed_bytes / _GB:.2f} GB of a device, and no worker of the trainer has as "
            f"much: {has}; make batch_size, micro_batch_size or max_length smaller, or train with weights qlora"
        )
    return []
