"""Publish a folder as the next revision of an adapter, all or nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

import sqlalchemy as sa

from registry import tables
from registry.adapters import find_adapter
from registry.audit import Act, write_audit
from registry.bases import all_bases, find_base
from registry.contracts.fingerprint import check_fingerprint
from registry.database import Registry
from registry.errors import Conflict, StaleState
from registry.jobs.job import Job, JobState, Lease
from registry.jobs.job_moves import JobMove, JobNote, add_note, held_job, move_job
from registry.publishing.adapter_name import check_adapter_name
from registry.publishing.adapter_weights import check_effect
from registry.publishing.checks import AdapterShape, check_adapter, check_claim
from registry.rollouts.rollout import Rollout, RolloutPlan
from registry.rollouts.rollout_moves import check_startable, draft_rollout, find_open_rollout, insert_rollout
from registry.transactions import insert_or_ignore
from registry.types import Adapter, Base, Revision, RevisionDraft, RevisionState

RESULTS_PURPOSE: Final = "fine-tune-results"
"""Purpose of the files that jobs make, as OpenAI names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFile:
    """The bytes of a job's result file as they are stored."""

    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """The facts of one publication before it is in the database."""

    draft: RevisionDraft
    base: Base
    artifact: str
    shape: AdapterShape
    lease: Lease | None
    rollout: RolloutPlan | None
    trained_tokens: int | None
    results: ResultFile | None
    at: float


def publish(  # noqa: PLR0913  a publication is exactly these facts
    registry: Registry,
    folder: Path,
    draft: RevisionDraft,
    *,
    lease: Lease | None = None,
    rollout: RolloutPlan | None = None,
    trained_tokens: int | None = None,
    results: bytes | None = None,
) -> Revision:
    """Publish *folder* as the next revision of `draft.adapter`, end the job of *lease*, start *rollout*; or do nothing.

    *folder* is as `registry.publishing.normalize` leaves it, with a fingerprint. *results* becomes the result file of
    the job.
    The rollout starts only if the adapter has a stable revision. While another rollout is open, a job goes without one
    (an event records it), and a publication without a job is refused as `RolloutOpen`. Raises `AdapterRejected`,
    `NotFound` (base), `Conflict` (name or alias), `LeaseLost`, `StaleState` (cancelled), `StorageFull`.
    """
    check_adapter_name(draft.adapter)
    with registry.transactions.read() as tx:
        base, others = find_base(tx, draft.base), all_bases(tx)
    with registry.artifacts.publishing() as staging:
        artifact = staging.put_folder(folder)
        stored = None if results is None else staging.put_chunks([results])
        # The copy is checked, not *folder*, whose bytes may still change.
        shape = check_adapter(staging.folder(artifact), Path(base.path))
        check_effect(staging.folder(artifact))
        check_claim(staging.folder(artifact), base, others)
        check_fingerprint(staging.folder(artifact), base)
        # The bytes are installed last in the transaction: a crash in between leaves bytes without a row, which
        # `recover` removes, and never a row without its bytes.
        with staging.committing() as install, registry.transactions.write() as tx:
            entry = _Entry(
                draft=replace(draft, job_id=lease.job_id) if lease is not None else draft,
                base=base,
                artifact=artifact,
                shape=shape,
                lease=lease,
                rollout=rollout,
                trained_tokens=trained_tokens,
                results=None if stored is None else ResultFile(digest=stored[0], size_bytes=stored[1]),
                at=registry.transactions.now(),
            )
            revision = _enter(tx, entry)
            install()
    return revision


def _enter(tx: sa.Connection, entry: _Entry) -> Revision:
    adapter = _entered_adapter(tx, entry)
    revision = _insert_revision(tx, entry)
    detail = {"artifact": revision.artifact, "job": revision.job_id}
    act = Act(actor=revision.owner, action="revision.publish", subject=revision.served_name, detail=detail)
    write_audit(tx, act, entry.at)
    begun = _begin_rollout(tx, entry, adapter, revision)
    if entry.lease is not None:
        _succeed(tx, entry, entry.lease, revision, begun)
    return revision


def _entered_adapter(tx: sa.Connection, entry: _Entry) -> Adapter:
    """Return the adapter, new or not, with its row locked, so that concurrent publications get different numbers."""
    name = entry.draft.adapter
    check_names(tx, name, entry.base)
    insert_or_ignore(tx, tables.adapters, {"name": name, "base": entry.base.name, "created_at": entry.at})
    adapter = find_adapter(tx, name, lock=True)
    # Checked again under the lock: since the first check the adapter may have been made for another base.
    check_names(tx, name, entry.base)
    return adapter


def check_names(tx: sa.Connection, adapter: str, base: Base) -> None:
    """Raise `Conflict` if *adapter* is the name of a base model, or of an adapter for another base than *base*."""
    if tx.execute(sa.select(tables.bases.c.name).where(tables.bases.c.name == adapter)).first() is not None:
        raise Conflict(f"{adapter!r} is the name of a base model; publish under another name")
    other = tx.execute(sa.select(tables.adapters.c.base).where(tables.adapters.c.name == adapter)).scalar_one_or_none()
    if other is not None and other != base.name:
        raise Conflict(f"adapter {adapter!r} is for base model {other!r}, not {base.name!r}")


def _insert_revision(tx: sa.Connection, entry: _Entry) -> Revision:
    table, draft = tables.revisions, entry.draft
    if draft.alias is not None:
        taken = tx.execute(sa.select(table.c.adapter, table.c.number).where(table.c.alias == draft.alias)).one_or_none()
        if taken is not None:
            raise Conflict(f"alias {draft.alias!r} is taken by {taken.adapter}@{taken.number}")
    last = tx.execute(sa.select(sa.func.max(table.c.number)).where(table.c.adapter == draft.adapter)).scalar_one()
    revision = Revision(
        adapter=draft.adapter,
        number=(last or 0) + 1,
        state=RevisionState.READY,
        artifact=entry.artifact,
        base=entry.base.name,
        base_digest=entry.base.digest,
        rank=entry.shape.rank,
        target_modules=entry.shape.target_modules,
        alias=draft.alias,
        job_id=draft.job_id,
        owner=draft.owner,
        provenance=dict(draft.provenance),
        created_at=entry.at,
    )
    row = {column.name: getattr(revision, column.name) for column in table.columns}
    tx.execute(sa.insert(table).values(row | {"target_modules": list(revision.target_modules)}))
    return revision


def _begin_rollout(tx: sa.Connection, entry: _Entry, adapter: Adapter, revision: Revision) -> Rollout | None:
    if entry.rollout is None or adapter.stable is None:
        return None
    if entry.lease is not None and find_open_rollout(tx, adapter.name) is not None:
        return None
    check_startable(tx, adapter, revision)
    rollout = draft_rollout(adapter, revision.number, entry.rollout, actor=revision.owner, at=entry.at)
    insert_rollout(tx, rollout)
    return rollout


def _succeed(tx: sa.Connection, entry: _Entry, lease: Lease, revision: Revision, begun: Rollout | None) -> None:
    # The job's row stays locked until the commit: a cancellation comes before this check or finds the job succeeded.
    job = held_job(tx, lease)
    if job.cancel_requested:
        raise StaleState(f"job {job.id} was asked to cancel; nothing is published")
    name = revision.alias or revision.served_name
    facts = {"revision": revision.served_name, "artifact": entry.artifact}
    add_note(tx, job.id, JobNote(message=job.spec.published_message(name), data=facts), entry.at)
    if begun is not None:
        add_note(tx, job.id, JobNote(message=f"Rollout {begun.id} of {revision.served_name} started"), entry.at)
    elif entry.rollout is not None:
        message = f"No rollout of {revision.served_name}: another one is open, or the adapter has no stable revision"
        add_note(tx, job.id, JobNote(message=message, level="warn"), entry.at)
    values: dict[str, Any] = {
        "revision": revision.number,
        "fine_tuned_model": name,
        "trained_tokens": entry.trained_tokens if entry.trained_tokens is not None else job.trained_tokens,
    }
    if entry.results is not None:
        values["result_file"] = _insert_results(tx, job, entry.results, entry.at)
    note = JobNote(message="The job has successfully completed")
    move_job(tx, job, JobMove(to=JobState.SUCCEEDED, note=note, values=values), entry.at)


def _insert_results(tx: sa.Connection, job: Job, results: ResultFile, at: float) -> str:
    row = {
        "id": f"file-{token_hex(12)}",
        "filename": "step_metrics.csv",
        "purpose": RESULTS_PURPOSE,
        "size_bytes": results.size_bytes,
        "digest": results.digest,
        "owner": job.owner,
        "tenant": job.tenant,
        "created_at": at,
    }
    tx.execute(sa.insert(tables.files).values(row))
    return str(row["id"])
