"""From a claimed job to the order of its child: look up and check everything that needs the registry."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.contracts.job_kinds import spec_from
from registry.contracts.job_spec import JobSpec
from registry.contracts.pictures.picture_part import PictureKind
from registry.database import Registry
from registry.errors import AdapterRejected, ArtifactCorrupt, NotFound
from registry.jobs.job import Job
from registry.types import Base
from trainer.devices.local_engines import niceness
from trainer.errors import JobFailed
from trainer.order import ChildOrder, PictureFiles
from trainer.settings import TrainerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFolders:
    """The folders that an attempt writes to."""

    job: Path
    attempt: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedJob:
    """An order, and the facts about its files for the revision's provenance."""

    order: ChildOrder[JobSpec]
    files: Mapping[str, Mapping[str, Any]]
    """Field of the spec -> id, name, digest and size of the file that it names.

    Read before the child starts: a file may be deleted while the job runs.
    """
    artifacts: frozenset[str]
    """Digests of all that the child reads, which stay on this machine meanwhile."""


def prepare(registry: Registry, settings: TrainerSettings, job: Job, folders: AttemptFolders) -> PreparedJob:
    """Return the order for *job*; `JobFailed` if the job cannot be done as it was asked."""
    spec = job.spec
    work = spec_from(spec.work_fields())
    try:
        base = registry.at_hand(registry.bases.get(spec.base))
    except NotFound as exc:
        raise JobFailed("base_not_found", str(exc), "model") from exc
    except ArtifactCorrupt as exc:
        raise JobFailed("base_changed", str(exc), "model") from exc
    _check_lora(work, base)
    files = {field: _file_facts(registry, field, file_id) for field, file_id in spec.files().items()}
    inputs = _input_paths(registry, spec)
    order = ChildOrder[JobSpec](
        spec=work,
        base_path=Path(base.path),
        inputs=inputs,
        pictures=_picture_files(registry, work, inputs),
        job_folder=folders.job,
        attempt_folder=folders.attempt,
        keep_checkpoints=settings.keep_checkpoints,
        threads=spec.threads() or settings.threads,
        nice=niceness(registry, settings, spec),
        ray_address=settings.ray_address if settings.placement == "ray" else None,
        worker_pid=os.getpid(),
    )
    artifacts = {base.digest, *(path.name for path in (*inputs.values(), *order.pictures.uploaded.values()))}
    return PreparedJob(order=order, files=files, artifacts=frozenset(artifacts))


def _check_lora(spec: JobSpec, base: Base) -> None:
    lora = spec.lora_shape()
    if lora is None:
        return
    from registry.publishing.checks import check_targets  # loads numpy, which a resting worker does without

    try:
        check_targets(lora.rank, lora.target_modules, base)
    except AdapterRejected as exc:
        raise JobFailed("invalid_hyperparameters", str(exc), "hyperparameters") from exc


def _input_paths(registry: Registry, spec: JobSpec) -> Mapping[str, Path]:
    paths = {}
    for field, file_id in spec.files().items():
        with _readable(f"{field} {file_id}", field):
            paths[field] = registry.files.path(registry.files.held(file_id))
    for field, digest in spec.artifacts().items():
        with _readable(field, field):
            paths[field] = registry.artifacts.folder(digest)
    return paths


def _picture_files(registry: Registry, work: JobSpec, inputs: Mapping[str, Path]) -> PictureFiles:
    """Return the places of the pictures that *work* names outside of its files."""
    uploaded = {}
    for field, picture in work.named_pictures(inputs):
        if picture.kind is PictureKind.FILE and picture.name not in uploaded:
            with _readable(f"{picture.where}: {picture.name}", field):
                uploaded[picture.name] = registry.files.path(registry.files.get(picture.name))
    return PictureFiles(uploaded=uploaded, folder=registry.picture_folder)


def _file_facts(registry: Registry, field: str, file_id: str) -> Mapping[str, Any]:
    with _readable(f"{field} {file_id}", field):
        file = registry.files.held(file_id)
    return {"id": file.id, "filename": file.filename, "sha256": file.digest, "size_bytes": file.size_bytes}


@contextmanager
def _readable(name: str, param: str) -> Iterator[None]:
    """Fail the job if the input called *name* is gone or damaged."""
    try:
        yield
    except (NotFound, ArtifactCorrupt) as exc:
        raise JobFailed("file_not_readable", f"{name}: {exc}", param) from exc
