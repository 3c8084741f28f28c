"""Adapters that were trained elsewhere: checked and normalised on upload, then published by a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from registry.audit import Act, write_audit
from registry.bases import all_bases, find_base
from registry.contracts.publish_spec import PublishSpec
from registry.database import Registry
from registry.jobs.adapter_owners import LOCAL_CLAIM, Claim
from registry.jobs.job import Job
from registry.jobs.job_moves import JobNote, add_note
from registry.jobs.scheduling.entering import queue_job
from registry.publishing.adapter_files import list_names
from registry.publishing.adapter_name import check_adapter_name
from registry.publishing.checks import check_claim
from registry.publishing.normalize import normalize_adapter
from registry.publishing.pool_limits import check_pools, check_takes_adapters
from registry.publishing.publish import check_names


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """An adapter's folder as it was received."""

    folder: Path
    left_out: Sequence[str] = ()
    """Names of what the sender's folder has besides the adapter's files."""
    limit_bytes: int | None = None
    """Most bytes of weights that the normalised adapter may have."""


def queue_publication(  # noqa: PLR0913  a publication is exactly these facts
    registry: Registry, upload: Upload, *, adapter: str, base: str, owner: str, claim: Claim = LOCAL_CLAIM
) -> Job:
    """Store the uploaded folder, normalised, and queue the job that publishes it as the next revision of *adapter*.

    Everything that can be refused is refused here: `AdapterRejected`, `NotFound` (base), `Conflict` (name),
    `StorageFull`.
    """
    check_adapter_name(adapter)
    with registry.transactions.read() as tx:
        stored, others = find_base(tx, base), all_bases(tx)
        check_names(tx, adapter, stored)
    stored = registry.at_hand(stored)
    with registry.artifacts.publishing() as staging:
        normal = staging.path / "normal"
        form = normalize_adapter(upload.folder, normal, stored.name, Path(stored.path), upload.limit_bytes)
        # The upload is checked: the config of its normalised form names *base*, whatever the adapter was trained for.
        check_claim(upload.folder, stored, others)
        replicas = registry.replicas.list()
        check_takes_adapters(stored, replicas)
        check_pools(form.shape.rank, stored, replicas)
        spec = PublishSpec(
            base=stored.name, base_digest=stored.digest, adapter=adapter, artifact=staging.put_folder(normal)
        )
        with staging.committing() as install, registry.transactions.write() as tx:
            at = registry.transactions.now()
            job = queue_job(tx, spec, owner, at, claim)
            detail = {"adapter": adapter, "base": stored.name, "artifact": spec.artifact}
            write_audit(tx, Act(actor=owner, action="job.create", subject=job.id, detail=detail), at)
            for note in _notes(upload.left_out, form.dropped):
                add_note(tx, job.id, note, at)
            install(tx)
    return job


def _notes(left_out: Sequence[str], dropped: Sequence[str]) -> list[JobNote]:
    """Return the events of what is not published, so that nothing is lost in silence."""
    notes = []
    if left_out:
        notes.append(JobNote(message=f"Left out, as serving does not need it: {list_names(left_out)}"))
    if dropped:
        notes.append(JobNote(message=f"Left out, as they equal the base model's own weights: {list_names(dropped)}"))
    return notes
