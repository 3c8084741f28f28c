"""From a claimed job to the order of its child: everything is looked up and checked that the child must not know of."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.contracts.publish_spec import PublishSpec
from registry.contracts.training_spec import TrainingSpec
from registry.database import Registry
from registry.errors import AdapterRejected, ArtifactCorrupt, NotFound
from registry.jobs.job import Job
from registry.publishing.checks import check_targets
from registry.types import Base
from trainer.errors import JobFailed
from trainer.order import Order, PublishOrder, TrainingOrder
from trainer.publish import describe_data
from trainer.settings import TrainerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFolders:
    """Where an attempt writes."""

    job: Path
    attempt: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """An order, and what the revision will remember of its data."""

    order: Order
    data: Mapping[str, Any]
    begins: str
    """What the job's story says when the child starts."""


def prepare(registry: Registry, settings: TrainerSettings, job: Job, folders: AttemptFolders) -> Prepared:
    """The order for *job*; `JobFailed` if it cannot be done as it was asked."""
    try:
        base = registry.bases.get(job.spec.base)
    except NotFound as exc:
        raise JobFailed("base_not_found", str(exc), "model") from exc
    common: dict[str, Any] = {
        "base_path": Path(base.path),
        "job_folder": folders.job,
        "attempt_folder": folders.attempt,
        "threads": settings.threads,
        "nice": settings.nice,
        "worker_pid": os.getpid(),
    }
    match job.spec:
        case TrainingSpec() as spec:
            order = _training_order(registry, settings, spec, base, common)
            return Prepared(order=order, data=describe_data(registry, spec), begins="Fine-tuning job started")
        case PublishSpec() as spec:
            return Prepared(
                order=_publish_order(registry, spec, common),
                data={"source": "published by hand", "upload": spec.artifact},
                begins="Publish job started",
            )


def _training_order(
    registry: Registry, settings: TrainerSettings, spec: TrainingSpec, base: Base, common: Mapping[str, Any]
) -> TrainingOrder:
    try:
        check_targets(spec.lora.rank, spec.lora.target_modules, base)
    except AdapterRejected as exc:
        raise JobFailed("invalid_hyperparameters", str(exc), "hyperparameters") from exc
    valid = spec.validation_file
    return TrainingOrder(
        spec=spec,
        training_path=_file_path(registry, spec.training_file, "training_file"),
        validation_path=_file_path(registry, valid, "validation_file") if valid else None,
        keep_checkpoints=settings.keep_checkpoints,
        **common,
    )


def _publish_order(registry: Registry, spec: PublishSpec, common: Mapping[str, Any]) -> PublishOrder:
    try:
        adapter_path = registry.artifacts.folder(spec.artifact)
    except (NotFound, ArtifactCorrupt) as exc:
        raise JobFailed("file_not_readable", f"the uploaded folder: {exc}") from exc
    return PublishOrder(spec=spec, adapter_path=adapter_path, **common)


def _file_path(registry: Registry, file_id: str, param: str) -> Path:
    try:
        return registry.files.path(registry.files.get(file_id))
    except (NotFound, ArtifactCorrupt) as exc:
        raise JobFailed("file_not_readable", f"{param} {file_id}: {exc}", param) from exc
