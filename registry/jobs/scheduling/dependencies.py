"""Jobs that wait for other jobs to succeed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import sqlalchemy as sa

from registry import tables
from registry.errors import DependencyRefused
from registry.jobs.job_state import JobState
from registry.jobs.scheduling.queue_tables import job_dependencies
from registry.wording.suggestions import did_you_mean

_MOST_COMPARED: Final = 200
"""How many ids, the newest, are compared with an unknown one."""

_other: Final = tables.jobs.alias("other")
UNMET: Final = sa.exists(
    sa.select(sa.literal(1))
    .select_from(job_dependencies.join(_other, _other.c.id == job_dependencies.c.after))
    .where(job_dependencies.c.job_id == tables.jobs.c.id, _other.c.state != JobState.SUCCEEDED)
)
"""The condition of a row of `jobs` that waits for another job."""


def check_dependencies(tx: sa.Connection, after: Collection[str], tenant: str | None) -> None:
    """Lock the jobs of *after*, which must exist, be the tenant's, and not have failed; else `DependencyRefused`.

    An id that is not there yet cannot be named, so jobs never wait for each other in a circle.
    """
    jobs = tables.jobs.c
    # In the order of their entry, as `move_job` locks them: two transactions then never wait for each other.
    query = sa.select(jobs.id, jobs.state, jobs.tenant).where(jobs.id.in_(sorted(after))).order_by(jobs.seq)
    found = {row.id: row for row in tx.execute(query.with_for_update()) if tenant in (None, row.tenant)}
    for job_id in after:
        if job_id not in found:
            ids = sa.select(jobs.id).order_by(jobs.seq.desc()).limit(_MOST_COMPARED)
            there = tx.execute(ids if tenant is None else ids.where(jobs.tenant == tenant)).scalars()
            raise DependencyRefused(f"there is no job {job_id!r}{did_you_mean(job_id, there)}")
        if found[job_id].state in (JobState.FAILED, JobState.CANCELLED):
            raise DependencyRefused(
                f"job {job_id} has {_ENDINGS[found[job_id].state]}, so a job that waits for it could never begin; "
                "leave it out, or start it again and name the new job"
            )


def enter_dependencies(tx: sa.Connection, job_id: str, after: Collection[str]) -> None:
    """Store that the new job waits for those of *after*."""
    if after:
        tx.execute(sa.insert(job_dependencies), [{"job_id": job_id, "after": each} for each in dict.fromkeys(after)])


def dependencies_of(tx: sa.Connection, job_ids: Collection[str]) -> Mapping[str, Mapping[str, JobState]]:
    """Return for each job the jobs that it was to come after, with their states; one without any is missing."""
    edges = job_dependencies.c
    query = sa.select(edges.job_id, edges.after, _other.c.state).where(edges.job_id.in_(sorted(job_ids)))
    found: dict[str, dict[str, JobState]] = {}
    joined = query.join_from(job_dependencies, _other, _other.c.id == edges.after).order_by(_other.c.seq)
    for row in tx.execute(joined):
        found.setdefault(row.job_id, {})[row.after] = JobState(row.state)
    return found


def waiting_rows(tx: sa.Connection, job_id: str) -> list[sa.RowMapping]:
    """Return the rows of the jobs that wait for this one, locked, oldest first."""
    edges = job_dependencies.c
    waits = sa.select(edges.job_id).where(edges.after == job_id)
    query = sa.select(tables.jobs).where(
        tables.jobs.c.id.in_(waits), tables.jobs.c.state.in_([JobState.QUEUED, JobState.PAUSED])
    )
    return list(tx.execute(query.order_by(tables.jobs.c.seq).with_for_update()).mappings())


def failure_of(job_id: str, state: JobState) -> dict[str, Any]:
    """Return the error of a job that waited for *job_id*, which ended otherwise than by success."""
    message = f"job {job_id}, which this one was to come after, has {_ENDINGS[state]}"
    return {"code": "dependency_failed", "message": message, "param": "after"}


_ENDINGS: Final[Mapping[JobState, str]] = {JobState.FAILED: "failed", JobState.CANCELLED: "been cancelled"}
