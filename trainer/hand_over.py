"""A finished child's adapter becomes a revision that records what made it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.database import Registry
from registry.jobs.job import Job, Lease
from registry.publishing.publish import publish
from registry.types import Revision, RevisionDraft
from trainer.progress import RecipeFinished
from trainer.result_file import result_csv


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedJob:
    """The result of a finished child, and what it was made of."""

    job: Job
    folder: Path
    finished: RecipeFinished
    files: Mapping[str, Mapping[str, Any]]
    """`PreparedJob.files` of the attempt."""


def hand_over(registry: Registry, lease: Lease, done: FinishedJob) -> Revision:
    """Publish the revision, end the job as succeeded and start its rollout, all or nothing.

    Raises the errors of `registry.publishing.publish`.
    """
    job = done.job
    draft = RevisionDraft(
        adapter=job.spec.adapter,
        base=job.spec.base,
        owner=job.owner,
        alias=job.spec.alias(job.id, registry.organisation),
        job_id=job.id,
        provenance=provenance_of(done),
    )
    return publish(
        registry,
        done.folder,
        draft,
        lease=lease,
        rollout=job.spec.rollout_plan(),
        trained_tokens=done.finished.trained_tokens,
        results=result_csv(registry, job.id) if done.finished.trained_tokens is not None else None,
    )


def provenance_of(done: FinishedJob) -> Mapping[str, Any]:
    """Return everything that made the revision, as JSON."""
    job, finished = done.job, done.finished
    made: dict[str, Any] = {
        **job.spec.provenance(done.files),
        "base": {"name": job.spec.base, "digest": job.spec.base_digest},
        "versions": finished.versions | {"python": platform.python_version()},
        "owner": job.owner,
        "times": {"created_at": job.created_at, "started_at": job.started_at},
        "attempts": job.attempt,
    }
    if finished.trained_tokens is not None:
        made |= {"metrics": finished.metrics, "trained_tokens": finished.trained_tokens}
    return made
