"""A trained adapter becomes a revision that says what made it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from registry.contracts.publish_spec import PublishSpec
from registry.contracts.training_spec import ROLLOUT, TrainingSpec
from registry.database import Registry
from registry.jobs.job import Job, Lease
from registry.publishing.publish import publish
from registry.types import Revision, RevisionDraft
from trainer.progress import Finished


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedAdapter:
    """What a finished child left, and what it was made of."""

    job: Job
    folder: Path
    finished: Finished
    data: Mapping[str, Any]
    """What `describe_data` said when the training began."""


def publish_trained(registry: Registry, lease: Lease, trained: TrainedAdapter) -> Revision:
    """The revision, with the job succeeded and its rollout begun if one was asked for; all or nothing.

    Raises what `registry.publishing.publish` does.
    """
    job = trained.job
    draft = RevisionDraft(
        adapter=job.spec.adapter,
        base=job.spec.base,
        owner=job.owner,
        job_id=job.id,
        provenance=provenance_of(trained),
    )
    match job.spec:
        case TrainingSpec() as spec:
            return publish(
                registry,
                trained.folder,
                replace(draft, alias=alias_of(job, registry.organisation)),
                lease=lease,
                rollout=spec.rollout_plan(),
                trained_tokens=trained.finished.trained_tokens,
            )
        case PublishSpec():
            return publish(registry, trained.folder, draft, lease=lease)


def alias_of(job: Job, organisation: str) -> str:
    """The name by which OpenAI's clients know the revision; the same whenever the job is published."""
    return f"ft:{job.spec.base}:{organisation}:{job.spec.adapter}:{job.id[-8:]}"


def describe_data(registry: Registry, spec: TrainingSpec) -> Mapping[str, Any]:
    """Names and digests of the job's files, as JSON; `NotFound` if one was deleted."""
    valid = spec.validation_file
    return {
        "dataset": _file_facts(registry, spec.training_file),
        "validation": None if valid is None else _file_facts(registry, valid),
    }


def provenance_of(trained: TrainedAdapter) -> Mapping[str, Any]:
    """Everything that made the revision, as JSON."""
    job, finished = trained.job, trained.finished
    made: dict[str, Any] = {
        **trained.data,
        "base": {"name": job.spec.base, "digest": job.spec.base_digest},
        "versions": finished.versions | {"python": platform.python_version()},
        "owner": job.owner,
        "times": {"created_at": job.created_at, "started_at": job.started_at},
        "attempts": job.attempt,
    }
    match job.spec:
        case TrainingSpec() as spec:
            return {**made, **_training_of(spec, finished)}
        case PublishSpec():
            return made


def _training_of(spec: TrainingSpec, finished: Finished) -> Mapping[str, Any]:
    elsewhere = {
        *(name for name in TrainingSpec.model_fields if name.startswith(ROLLOUT)),
        "seed",
        "suffix",
        "metadata",
        "requested",
        "training_file",
        "validation_file",
        "base",
        "base_digest",
    }
    return {
        "hyperparameters": spec.model_dump(mode="json", exclude=elsewhere),
        "seed": spec.seed,
        "metrics": finished.metrics,
        "trained_tokens": finished.trained_tokens,
    }


def _file_facts(registry: Registry, file_id: str) -> Mapping[str, Any]:
    file = registry.files.get(file_id)
    return {"id": file.id, "filename": file.filename, "sha256": file.digest, "size_bytes": file.size_bytes}
