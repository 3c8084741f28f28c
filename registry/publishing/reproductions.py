"""Queue the job of a result once more, with everything that made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from registry.audit import Act, write_audit
from registry.contracts.job_spec import JobSpec
from registry.contracts.reproductions.reproduce_spec import ReproduceSpec
from registry.database import Registry
from registry.errors import NotFound, NotReproducible, RegistryError
from registry.jobs.adapter_owners import LOCAL_CLAIM, Claim
from registry.jobs.job import Job
from registry.jobs.scheduling.entering import queue_job


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A result as the registry records it."""

    name: str
    artifact: str
    job_id: str | None
    provenance: Mapping[str, Any]


def queue_reproduction(registry: Registry, name: str, owner: str, claim: Claim = LOCAL_CLAIM) -> Job:
    """Queue the job that makes the revision or checkpoint *name* again, and return it.

    Raises `NotFound` for an unknown name, and `NotReproducible` with every reason why the job cannot be run again.
    """
    made = _find(registry, name)
    if made.job_id is None:
        raise NotReproducible(f"{made.name} was not made by a job of this registry, so there is no job to run again")
    job = _job_of(registry, made)
    if not job.spec.is_reproducible:
        raise NotReproducible(
            f"{made.name} was trained elsewhere and only published here: there is no training to repeat"
        )
    files, gone = _present_files(registry, job.spec, made)
    obstacles = [*gone, *_base_obstacles(registry, job.spec), *_folder_obstacles(registry, job.spec)]
    if obstacles:
        raise NotReproducible(f"{made.name} cannot be made again: {'; '.join(obstacles)}")
    spec = ReproduceSpec(
        base=job.spec.base,
        base_digest=job.spec.base_digest,
        adapter=job.spec.adapter,
        result=made.name,
        result_artifact=made.artifact,
        job_id=job.id,
        work=job.spec.model_dump(mode="json"),
        folders=dict(job.spec.artifacts()),
        versions=dict(made.provenance.get("versions", {})),
        machine=dict(made.provenance.get("machine", {})),
        training_file=files.get("training_file"),
        validation_file=files.get("validation_file"),
    )
    with registry.transactions.write() as tx:
        at = registry.transactions.now()
        queued = queue_job(tx, spec, owner, at, claim)
        write_audit(tx, Act(actor=owner, action="job.create", subject=queued.id, detail={"reproduces": made.name}), at)
    return queued


def _find(registry: Registry, name: str) -> _Made:
    if any(base.name == name and base.is_checkpoint for base in registry.bases.list()):
        checkpoint = registry.bases.get(name)
        made = checkpoint.provenance
        if checkpoint.expires_at is not None:
            raise NotReproducible(
                f"{name} is an earlier step of the job {checkpoint.job_id}: only a result is made again"
            )
        return _Made(name=name, artifact=checkpoint.digest, job_id=checkpoint.job_id, provenance=made)
    revision = registry.adapters.named(name)
    return _Made(
        name=revision.served_name,
        artifact=revision.artifact,
        job_id=revision.job_id,
        provenance=revision.provenance,
    )


def _job_of(registry: Registry, made: _Made) -> Job:
    try:
        return registry.jobs.get(str(made.job_id))
    except NotFound as exc:
        raise NotReproducible(f"{made.name} cannot be made again: the record of job {made.job_id} is gone") from exc


def _present_files(registry: Registry, spec: JobSpec, made: _Made) -> tuple[dict[str, str], list[str]]:
    """Return field -> id of a file with the bytes that the job read, and what is missing."""
    recorded = {"training_file": "dataset", "validation_file": "validation"}
    present: dict[str, str] = {}
    gone = []
    for field, file_id in spec.files().items():
        facts = made.provenance.get(recorded.get(field, field)) or {}
        digest = facts.get("sha256")
        found = registry.files.with_bytes(digest, file_id) if digest else None
        if found is None:
            said = f" ({facts['filename']}, sha256 {digest[:12]})" if digest else ""
            gone.append(f"{field} {file_id}{said} was deleted; upload the same bytes again")
        else:
            present[field] = found.id
    return present, gone


def _base_obstacles(registry: Registry, spec: JobSpec) -> list[str]:
    try:
        base = registry.bases.get(spec.base)
    except NotFound as exc:
        return [str(exc)]
    if base.digest == spec.base_digest:
        return []
    return [f"base model {spec.base} has changed: digest {base.digest[:12]} now, {spec.base_digest[:12]} then"]


def _folder_obstacles(registry: Registry, spec: JobSpec) -> list[str]:
    obstacles = []
    for field, digest in spec.artifacts().items():
        try:
            registry.artifacts.folder(digest)
        except RegistryError as exc:
            obstacles.append(f"{field}: {exc}")
    return obstacles
