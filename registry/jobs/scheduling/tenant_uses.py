"""How much of the trainer each tenant has used: the ground of fair shares.

A tenant's use is the number of seconds that its jobs have held a worker. A running attempt counts with what is
expected of it, so that nobody takes every worker before a use is known; a past one counts half as much each day.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from registry import tables
from registry.jobs.job import Job
from registry.jobs.job_state import JobState
from registry.jobs.scheduling.queue_tables import trainer_uses

DAY_S: Final = 86400.0
REMEMBERED_DAYS: Final = 10
"""After so many days a use counts less than a thousandth, and is forgotten."""
LEAST_USE_S: Final = 60.0
"""Least seconds that a running attempt counts: the start of a job takes a worker some, whatever comes of it."""
_INSERT: Final[Mapping[str, Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def charge_s(expected_s: float | None, spent_s: float = 0.0) -> float:
    """Return the seconds that a running attempt counts with."""
    return max(LEAST_USE_S, spent_s, expected_s or 0.0)


def add_use(tx: sa.Connection, job: Job, at: float) -> None:
    """Add the attempt of *job* that ends at this moment to the uses of its tenant."""
    if job.claimed_at is None:
        return
    day, used_s = int(at // DAY_S), max(0.0, at - job.claimed_at)
    # Added by the database, so that two attempts which end at once both count.
    row = _INSERT[tx.dialect.name](trainer_uses).values(tenant=job.tenant, day=day, used_s=used_s)
    summed = trainer_uses.c.used_s + row.excluded.used_s
    tx.execute(row.on_conflict_do_update(index_elements=["tenant", "day"], set_={"used_s": summed}))
    is_old = sa.and_(trainer_uses.c.tenant == job.tenant, trainer_uses.c.day <= day - REMEMBERED_DAYS)
    tx.execute(sa.delete(trainer_uses).where(is_old))


def uses_of_tenants(tx: sa.Connection, now: float) -> Mapping[str, float]:
    """Return the use of every tenant, in seconds; a tenant without any is missing."""
    today, found = int(now // DAY_S), defaultdict[str, float](float)
    past = sa.select(trainer_uses).where(trainer_uses.c.day > today - REMEMBERED_DAYS)
    for row in tx.execute(past):
        found[row.tenant] += row.used_s * 0.5 ** max(0, today - row.day)
    jobs = tables.jobs.c
    running = sa.select(jobs.tenant, jobs.claimed_at, jobs.expected_s).where(jobs.state == JobState.RUNNING)
    for row in tx.execute(running):
        spent_s = 0.0 if row.claimed_at is None else now - row.claimed_at
        found[row.tenant] += charge_s(row.expected_s, spent_s)
    return found
