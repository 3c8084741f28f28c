"""How long earlier jobs took that were like another one: the ground for an estimate before its first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import sqlalchemy as sa

from registry import tables
from registry.contracts.job_kinds import spec_from
from registry.contracts.job_spec import JobSpec
from registry.jobs.job_state import JobState

_LOOKED_AT: Final = 50
"""Jobs of the same method and base model that are compared, the newest ones."""
_COUNTED: Final = 5
"""Number of jobs like the job that count."""
_LARGEST_RATIO: Final = 2.0
"""A job of more than so many times the work, or less than its inverse, is not like the other one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedDuration:
    """How long a job takes by what earlier ones took."""

    seconds: float
    """From the claim to the end."""
    jobs: int
    """How many earlier jobs this follows from."""


def expected_duration(tx: sa.Connection, spec: JobSpec) -> ExpectedDuration | None:
    """Return the median of the latest jobs like *spec*, scaled by the amount of work; None without such a job."""
    jobs = tables.jobs.c
    same = sa.and_(jobs.spec["method"].as_string() == spec.method, jobs.spec["base"].as_string() == spec.base)
    # A job that was given back has waited in between.
    whole = sa.and_(jobs.state == JobState.SUCCEEDED, jobs.attempt == 1)
    query = sa.select(jobs.spec, jobs.started_at, jobs.finished_at).where(same, whole)
    earlier = [
        (spec_from(row.spec), row.finished_at - row.started_at)
        for row in tx.execute(query.order_by(jobs.seq.desc()).limit(_LOOKED_AT))
    ]
    alike = [(each, seconds) for each, seconds in earlier if each.speed_fields() == spec.speed_fields()]
    sizes = _sizes(tx, [spec, *(each for each, _ in alike)])
    found = _scaled(spec.workload(sizes), [(each.workload(sizes), seconds) for each, seconds in alike])
    return ExpectedDuration(seconds=median(found), jobs=len(found)) if found else None


def _scaled(work: float | None, earlier: Sequence[tuple[float | None, float]]) -> list[float]:
    """Return the seconds of the *earlier* jobs (work, seconds) of a like size, each as if it had had this *work*."""
    if work is None:
        return []
    ratios = [(work / done, seconds) for done, seconds in earlier if done]
    return [ratio * s for ratio, s in ratios if 1 / _LARGEST_RATIO <= ratio <= _LARGEST_RATIO][:_COUNTED]


def _sizes(tx: sa.Connection, specs: Sequence[JobSpec]) -> Mapping[str, int]:
    """Return the bytes of the files that are still there, by file id."""
    ids = {file_id for spec in specs for file_id in spec.files().values()}
    files = tables.files.c
    rows: Any = tx.execute(sa.select(files.id, files.size_bytes).where(files.id.in_(sorted(ids))))
    return {row.id: row.size_bytes for row in rows}
