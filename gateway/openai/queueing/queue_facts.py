"""Facts of how jobs wait, for answers: their place, what they wait for, and when their turn is expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.objects.jobs import QueuePlace
from gateway.openai.types import whole_seconds
from registry.database import Registry
from registry.jobs.job import Job
from registry.jobs.job_state import JobState
from registry.jobs.scheduling.forecast import Turn
from registry.jobs.scheduling.room import can_hold_some


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFacts:
    """The state of the queue while the jobs of one answer are shown."""

    after: Mapping[str, Mapping[str, JobState]]
    """Job -> the jobs that it was to come after, with their states."""
    turns: Mapping[str, Turn]
    reasons: Mapping[str, str]
    """Job that cannot begin -> why."""


def queue_facts(registry: Registry, jobs: Sequence[Job]) -> QueueFacts:
    """Read what answers report of *jobs*; where none of them waits, the queue is not read."""
    after = registry.jobs.dependencies([job.id for job in jobs]) if jobs else {}
    queued = [job for job in jobs if job.state is JobState.QUEUED]
    if not queued:
        return QueueFacts(after=after, turns={}, reasons={})
    now, workers = registry.transactions.now(), registry.workers.list()
    reasons = {}
    for job in queued:
        unmet = [each for each, state in after.get(job.id, {}).items() if state is not JobState.SUCCEEDED]
        if unmet:
            reasons[job.id] = f"waits until {', '.join(unmet)} succeeded"
        elif not workers:
            reasons[job.id] = "no worker of the trainer is known"
        elif not can_hold_some(workers, job.needed_bytes):
            reasons[job.id] = "no worker of the trainer has a device as large as the job needs"
        elif job.not_before > now:
            reasons[job.id] = "waits after machines were lost with it"
    return QueueFacts(after=after, turns=registry.jobs.turns(), reasons=reasons)


def waiting_fields(job: Job, facts: QueueFacts) -> dict[str, Any]:
    """Return the fields of `JobFacts` that report how the job waits and when its turn and its end are expected."""
    edges, turn = facts.after.get(job.id, {}), facts.turns.get(job.id)
    fields = {
        "after": list(edges),
        "needed_bytes": job.needed_bytes,
        "gives_way": job.gives_way_to is not None,
        "expected_finish": whole_seconds(job.expected_finish),
    }
    if job.state is not JobState.QUEUED or turn is None:  # the latter was claimed a moment ago
        return fields
    place = QueuePlace(
        place=turn.place,
        of=len(facts.turns),
        waits_for=[each for each, state in edges.items() if state is not JobState.SUCCEEDED],
        reason=facts.reasons.get(job.id),
    )
    times = {"expected_start": whole_seconds(turn.starts_at), "expected_finish": whole_seconds(turn.ends_at)}
    return fields | {"queue": place} | times
