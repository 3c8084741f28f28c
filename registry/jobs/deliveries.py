"""The ends of fine-tuning jobs as a webhook's receiver is told of them; a job ends once, with the time in its row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from registry import tables
from registry.contracts.job_kinds import FINE_TUNING_METHODS
from registry.deliveries import Outbox, job_deliveries
from registry.jobs.job_state import ENDED, JobState


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnd:
    """How and when a job ended."""

    job_id: str
    state: JobState
    at: float


def _read(_: sa.Connection, row: Mapping[str, Any]) -> JobEnd:
    return JobEnd(job_id=row["id"], state=JobState(row["state"]), at=row["finished_at"])


JOB_ENDS: Final = Outbox(
    events=tables.jobs,
    at=tables.jobs.c.finished_at,
    tried=job_deliveries,
    read=_read,
    which=sa.and_(
        tables.jobs.c.state.in_(sorted(ENDED)), tables.jobs.c.spec["method"].as_string().in_(FINE_TUNING_METHODS)
    ),
)
