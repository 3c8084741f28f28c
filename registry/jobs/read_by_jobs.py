"""What jobs that have not ended still read: files, and folders of artifacts."""

from __future__ import annotations

import sqlalchemy as sa

from registry import tables
from registry.contracts.job_kinds import JOB_KINDS
from registry.jobs.job import ENDED
from registry.jobs.job_moves import job_of


def jobs_reading(tx: sa.Connection, file_id: str) -> list[str]:
    """Return the ids of the jobs that have not ended and read the file with this id."""
    jobs = tables.jobs
    reads = [
        sa.and_(jobs.c.spec["method"].as_string() == method, jobs.c.spec[field].as_string() == file_id)
        for method, kind in JOB_KINDS.items()
        for field in sorted(kind.file_fields)
    ]
    return [*tx.execute(sa.select(jobs.c.id).where(jobs.c.state.not_in(ENDED), sa.or_(*reads))).scalars()]


def folders_of_ended(tx: sa.Connection) -> set[str]:
    """Return the digests of the uploaded folders that jobs read which have ended."""
    jobs = tables.jobs
    queries = [
        sa.select(jobs.c.spec[field].as_string()).where(
            jobs.c.spec["method"].as_string() == method, jobs.c.state.in_(ENDED)
        )
        for method, kind in JOB_KINDS.items()
        for field in sorted(kind.artifact_fields)
    ]
    return set(tx.execute(sa.union_all(*queries)).scalars())


def folders_read(tx: sa.Connection) -> set[str]:
    """Return the digests of all folders that jobs which have not ended read, whatever field names them."""
    rows = tx.execute(sa.select(tables.jobs).where(tables.jobs.c.state.not_in(ENDED))).mappings()
    return {digest for row in rows for digest in job_of(row).spec.artifacts().values()}
