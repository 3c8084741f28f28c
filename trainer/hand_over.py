"""A finished child's folder enters the registry as what its job was for, with a record of what made it.

Code that reads and writes weights is imported when there are some: a resting worker does without numpy.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from registry.contracts.job_spec import ADAPTER_KINDS
from registry.contracts.reproductions.reproduction_report import REPORT
from registry.database import Registry
from registry.jobs.job import Job, Lease
from registry.jobs.job_moves import JobNote
from registry.states import ResultKind
from registry.types import CheckpointDraft, RevisionDraft, ServedCheckpointDraft
from trainer.order import served_folder
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
    checkpoints_kept_s: float
    """How long the checkpoints beside the result are served."""


def hand_over(registry: Registry, lease: Lease, done: FinishedJob) -> str:
    """Make of the result what its kind of job asks for, and end the job as succeeded, all or nothing; return a name.

    Raises the errors of `registry.publishing.publish`.
    """
    return PUBLISHERS[done.job.spec.result_kind()](registry, lease, done)


def _publish_revision(registry: Registry, lease: Lease, done: FinishedJob) -> str:
    from registry.publishing.publish import publish

    job = done.job
    draft = RevisionDraft(
        adapter=job.spec.adapter,
        base=job.spec.base,
        owner=job.owner,
        alias=job.spec.alias(job.id, registry.organisation),
        job_id=job.id,
        kind=ADAPTER_KINDS[job.spec.result_kind()],
        provenance=provenance_of(registry, done),
        checkpoints=tuple(_served_checkpoints(registry, done)),
    )
    revision = publish(
        registry,
        done.folder,
        draft,
        lease=lease,
        rollout=job.spec.rollout_plan(),
        trained_tokens=done.finished.trained_tokens,
        results=_results(registry, done),
    )
    return revision.served_name


def _served_checkpoints(registry: Registry, done: FinishedJob) -> Iterator[ServedCheckpointDraft]:
    job, finished = done.job, done.finished
    if finished.result_step is None or not job.spec.serves_steps():
        return
    expires_at = registry.transactions.now() + done.checkpoints_kept_s
    published = {each.step for each in registry.checkpoints.of_job(job.id)}
    for step in finished.served_steps:
        if step not in published:
            yield _step_draft(registry, job, step, served_folder(done.folder.parent, step), expires_at)
    yield _step_draft(registry, job, finished.result_step, None, None)


def _step_draft(
    registry: Registry, job: Job, step: int, folder: Path | None, expires_at: float | None
) -> ServedCheckpointDraft:
    alias = job.spec.checkpoint_alias(job.id, registry.organisation, step)
    return ServedCheckpointDraft(step=step, alias=alias, folder=folder, expires_at=expires_at)


def hand_over_step(  # noqa: PLR0913
    registry: Registry, lease: Lease, job: Job, attempt_folder: Path, step: int, kept_s: float
) -> str:
    """Publish a step of the running job from its folder, and return the name by which it answers.

    Raises the errors of `registry.publishing.publish.publish_step`.
    """
    from registry.publishing.publish import publish_step

    expires_at = registry.transactions.now() + kept_s
    draft = _step_draft(registry, job, step, served_folder(attempt_folder, step), expires_at)
    series = RevisionDraft(adapter=job.spec.adapter, base=job.spec.base, owner=job.owner)
    publish_step(registry, lease, series, draft)
    return draft.alias


def _publish_checkpoint(registry: Registry, lease: Lease, done: FinishedJob) -> str:
    from registry.publishing.checkpoints import publish_checkpoint

    job = done.job
    owner = registry.owners.get(job.spec.adapter)
    draft = CheckpointDraft(
        series=job.spec.adapter,
        parent=job.spec.base,
        owner=job.owner,
        tenant=job.tenant,
        # The name was claimed with the job, so there is an owner.
        is_shared=owner is not None and owner.is_shared,
        provenance=provenance_of(registry, done),
        steps=tuple(_served_checkpoints(registry, done)),
        form=job.spec.checkpoint_form(),
    )
    base = publish_checkpoint(
        registry,
        done.folder,
        draft,
        lease=lease,
        trained_tokens=done.finished.trained_tokens,
        results=_results(registry, done),
    )
    return base.name


def _compare(registry: Registry, lease: Lease, done: FinishedJob) -> str:
    from trainer.reproduction.report import reproduction_report

    report = reproduction_report(registry, done.job, done.folder, done.finished)
    note = JobNote(message=report.verdict, data={REPORT: report.model_dump(mode="json")})
    registry.jobs.succeed(lease, note)
    return report.result


PUBLISHERS: Final[Mapping[ResultKind, Callable[[Registry, Lease, FinishedJob], str]]] = {
    ResultKind.ADAPTER: _publish_revision,
    ResultKind.CHECKPOINT: _publish_checkpoint,
    ResultKind.REWARD: _publish_revision,
    ResultKind.COMPARISON: _compare,
}
"""Kind of result -> the function that makes that of it and returns its name."""


def _results(registry: Registry, done: FinishedJob) -> bytes | None:
    return result_csv(registry, done.job.id) if done.finished.trained_tokens is not None else None


def provenance_of(registry: Registry, done: FinishedJob) -> Mapping[str, Any]:
    """Return everything that made the result, as JSON."""
    job, finished = done.job, done.finished
    # Asked now: the report on a new file, or a person's sign-off, may have come while the job was running.
    files = {
        field: {**facts, **registry.reports.known_of(facts["sha256"], job.tenant)}
        for field, facts in done.files.items()
    }
    for field, unfit in registry.jobs.get(job.id).unfit_rows.items():
        files[field]["unfit_rows"] = unfit.model_dump(mode="json")
    made: dict[str, Any] = {
        **job.spec.provenance(files),
        **finished.provenance,
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
