"""A finished child's adapter becomes a revision that records what made it."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from registry.contracts.job_spec import ResultKind
from registry.contracts.reproduce_spec import ReproduceSpec
from registry.contracts.reproduction_report import REPORT
from registry.database import Registry
from registry.jobs.job import Job, Lease
from registry.jobs.job_moves import JobNote
from registry.publishing.publish import publish
from registry.types import RevisionDraft
from trainer.progress import RecipeFinished
from trainer.reproduction.report import reproduction_report
from trainer.result_file import result_csv


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedJob:
    """The result of a finished child, and what it was made of."""

    job: Job
    folder: Path
    finished: RecipeFinished
    files: Mapping[str, Mapping[str, Any]]
    """`PreparedJob.files` of the attempt."""


def hand_over(registry: Registry, lease: Lease, done: FinishedJob) -> str:
    """Make of the result what its kind of job says, and end the job as succeeded, all or nothing; return a name.

    Raises the errors of `registry.publishing.publish`.
    """
    return PUBLISHERS[done.job.spec.result_kind()](registry, lease, done)


def _publish_adapter(registry: Registry, lease: Lease, done: FinishedJob) -> str:
    job = done.job
    draft = RevisionDraft(
        adapter=job.spec.adapter,
        base=job.spec.base,
        owner=job.owner,
        alias=job.spec.alias(job.id, registry.organisation),
        job_id=job.id,
        provenance=provenance_of(done),
    )
    revision = publish(
        registry,
        done.folder,
        draft,
        lease=lease,
        rollout=job.spec.rollout_plan(),
        trained_tokens=done.finished.trained_tokens,
        results=result_csv(registry, job.id) if done.finished.trained_tokens is not None else None,
    )
    return revision.served_name


def _compare(registry: Registry, lease: Lease, done: FinishedJob) -> str:
    recorded = ReproduceSpec.model_validate(done.job.spec.model_dump())
    report = reproduction_report(registry, recorded, done.job.id, done.folder, done.finished)
    note = JobNote(message=report.verdict, data={REPORT: report.model_dump(mode="json")})
    registry.jobs.succeed(lease, note)
    return recorded.result


PUBLISHERS: Final[Mapping[ResultKind, Callable[[Registry, Lease, FinishedJob], str]]] = {
    ResultKind.ADAPTER: _publish_adapter,
    ResultKind.COMPARISON: _compare,
}
"""What a result becomes -> what makes that of it and returns its name."""


def provenance_of(done: FinishedJob) -> Mapping[str, Any]:
    """Return everything that made the revision, as JSON."""
    job, finished = done.job, done.finished
    made: dict[str, Any] = {
        **job.spec.provenance(done.files),
        "base": {"name": job.spec.base, "digest": job.spec.base_digest},
        "versions": finished.versions | {"python": platform.python_version()},
        "machine": finished.machine,
        "owner": job.owner,
        "times": {"created_at": job.created_at, "started_at": job.started_at},
        "attempts": job.attempt,
    }
    if finished.trained_tokens is not None:
        made |= {"metrics": finished.metrics, "trained_tokens": finished.trained_tokens}
    return made
