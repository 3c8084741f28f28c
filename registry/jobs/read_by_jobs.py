"""Files and folders of artifacts that jobs which have not ended still read."""

from __future__ import annotations

import sqlalchemy as sa

from registry import tables
from registry.contracts.job_kinds import JOB_KINDS, spec_from
from registry.jobs.job_state import ENDED


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
    # Most kinds read none, and the specs of a long queue take a while to parse.
    readers = [method for method, kind in JOB_KINDS.items() if kind.reads_folders]
    is_reader = sa.and_(tables.jobs.c.state.not_in(ENDED), tables.jobs.c.spec["method"].as_string().in_(readers))
    rows = tx.execute(sa.select(tables.jobs.c.spec).where(is_reader)).scalars()
    return {digest for spec in rows for digest in spec_from(spec).artifacts().values()}
