"""Jobs by what somebody looks for: a page of them, those of the moment, those that may make a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import hexdigits
from typing import Final

import sqlalchemy as sa

from registry import tables
from registry.contracts.job_kinds import FINE_TUNING_METHODS
from registry.jobs.job import Job, has_metadata
from registry.jobs.job_moves import job_of
from registry.jobs.job_state import ENDED, JobState
from registry.jobs.pages import page

ID_ENDING: Final = 8
"""Characters of a job's id that its model's name ends with."""
FILTERED_AT_ONCE: Final = 200
"""Jobs that are read at once where metadata filters them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """The jobs that a list has."""

    metadata: Mapping[str, str] | None
    """Only jobs whose own metadata has all these pairs; empty finds the jobs without any, None all."""
    only_fine_tuning: bool
    tenant: str | None


def listed_jobs(tx: sa.Connection, after: str | None, limit: int, asked: JobFilter) -> list[Job]:
    """Return jobs, newest first."""
    query = sa.select(tables.jobs)
    if asked.tenant is not None:
        query = query.where(tables.jobs.c.tenant == asked.tenant)
    if asked.only_fine_tuning:
        query = query.where(tables.jobs.c.spec["method"].as_string().in_(FINE_TUNING_METHODS))
    if asked.metadata is None:
        return [job_of(row) for row in page(tx, query, tables.jobs, after, limit)]
    # Compared here: a key is any text, which neither database takes in a path into JSON.
    found: list[Job] = []
    while len(found) < limit:
        jobs = [job_of(row) for row in page(tx, query, tables.jobs, after, FILTERED_AT_ONCE)]
        found += [job for job in jobs if has_metadata(job, asked.metadata)]
        if len(jobs) < FILTERED_AT_ONCE:
            break
        after = jobs[-1].id
    return found[:limit]


def current_jobs(tx: sa.Connection, ended_since: float, most_queued: int) -> list[Job]:
    """Return the jobs that have not ended, of the queued ones the first, and those that ended since then.

    The oldest come first.
    """
    jobs = tables.jobs
    is_queued = jobs.c.state == JobState.QUEUED
    first = sa.select(jobs.c.seq).where(is_queued).order_by(jobs.c.priority, jobs.c.seq).limit(most_queued)
    is_current = jobs.c.state.not_in([*ENDED, JobState.QUEUED])
    shown = sa.or_(is_current, jobs.c.finished_at >= ended_since, jobs.c.seq.in_(first))
    return [job_of(row) for row in tx.execute(sa.select(jobs).where(shown).order_by(jobs.c.seq)).mappings()]


def jobs_making(tx: sa.Connection, name: str) -> list[Job]:
    """Return the jobs, newest first, that may make a model of this *name*: `ft:...:<id>`, or their adapter's."""
    jobs, last = tables.jobs.c, name.rpartition(":")[2]
    for_it = sa.and_(jobs.spec["adapter"].as_string() == name, jobs.state.not_in(ENDED))
    if len(last) == ID_ENDING and set(last) <= set(hexdigits):
        for_it = sa.or_(for_it, jobs.id.like(f"%{last}"))
    query = sa.select(tables.jobs).where(for_it).order_by(jobs.seq.desc()).limit(20)
    return [job_of(row) for row in tx.execute(query).mappings()]
