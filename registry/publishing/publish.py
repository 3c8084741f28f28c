"""Publish a folder as the next revision of an adapter, all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from registry import tables
from registry.adapters import find_adapter
from registry.artifacts import Staging
from registry.audit import Act, write_audit
from registry.bases import all_bases, find_base
from registry.contracts.fingerprint import check_fingerprint
from registry.database import Registry
from registry.errors import Conflict
from registry.jobs.job import Lease
from registry.jobs.job_moves import JobNote, held_job
from registry.jobs.served_checkpoints import StagedCheckpoint, insert_checkpoints
from registry.publishing.adapter_name import check_adapter_name
from registry.publishing.adapter_weights import check_effect
from registry.publishing.checks import AdapterShape, check_adapter, check_claim
from registry.publishing.job_end import JobEnd, PublishedResult, put_results, succeed_job
from registry.publishing.score_head import check_reward_model
from registry.rollouts.rollout import Rollout, RolloutPlan
from registry.rollouts.rollout_moves import check_startable, draft_rollout, find_open_rollout, insert_rollout
from registry.states import AdapterKind, RevisionState
from registry.transactions import insert_or_ignore
from registry.types import Adapter, Base, Revision, RevisionDraft, ServedCheckpointDraft


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """The facts of one publication before it is in the database."""

    draft: RevisionDraft
    base: Base
    artifact: str
    shape: AdapterShape
    rollout: RolloutPlan | None
    end: JobEnd | None
    checkpoints: Sequence[StagedCheckpoint]
    at: float


Check = Callable[[Path, Base], AdapterShape]


def _check_chat_adapter(folder: Path, base: Base) -> AdapterShape:
    shape = check_adapter(folder, Path(base.path))
    check_effect(folder)
    check_fingerprint(folder, base)
    return shape


CHECKS: Final[Mapping[AdapterKind, Check]] = {
    AdapterKind.CHAT: _check_chat_adapter,
    AdapterKind.REWARD: check_reward_model,
}
"""Kind of a series -> what checks the folder of a revision and returns its shape; `AdapterRejected`."""
NO_SHAPE: Final = AdapterShape(rank=0, target_modules=())
"""Stands for the result's shape while there is no result."""


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

    *folder* is as `registry.publishing.normalize` leaves it, with a fingerprint, or for a reward model with the file of
    `registry.publishing.score_head`. *results* becomes the result file of
    the job.
    The rollout starts only if the adapter has a stable revision, or the plan a gate. While another rollout is open, a
    job goes without one
    (an event records it), and a publication without a job is refused as `RolloutOpen`. Raises `AdapterRejected`,
    `NotFound` (base), `Conflict` (name or alias), `LeaseLost`, `StaleState` (cancelled), `StorageFull`.
    """
    check_adapter_name(draft.adapter)
    with registry.transactions.read() as tx:
        base, others = find_base(tx, draft.base), all_bases(tx)
    base = registry.at_hand(base)
    with registry.artifacts.publishing() as staging:
        check = CHECKS[draft.kind]
        artifact, shape = _staged(staging, folder, check, base, others)
        result = (artifact, shape)
        checkpoints = [_staged_checkpoint(staging, each, check, result, (base, others)) for each in draft.checkpoints]
        stored = None if results is None else put_results(staging, results)
        # The bytes are installed last in the transaction: a crash in between leaves bytes without a row, which
        # `recover` removes, and never a row without its bytes.
        with staging.committing() as install, registry.transactions.write() as tx:
            entry = _Entry(
                draft=replace(draft, job_id=lease.job_id) if lease is not None else draft,
                base=base,
                artifact=artifact,
                shape=shape,
                rollout=rollout,
                end=None if lease is None else JobEnd(lease=lease, trained_tokens=trained_tokens, results=stored),
                checkpoints=checkpoints,
                at=registry.transactions.now(),
            )
            revision = _enter(tx, entry)
            install(tx)
    return revision


def publish_step(registry: Registry, lease: Lease, draft: RevisionDraft, step: ServedCheckpointDraft) -> None:
    """Publish a step of a running job alone, so that it answers requests before there is a revision; once.

    Raises `AdapterRejected`, `NotFound` (base), `LeaseLost`, `StorageFull`.
    """
    with registry.transactions.read() as tx:
        base, others = find_base(tx, draft.base), all_bases(tx)
    base = registry.at_hand(base)
    with registry.artifacts.publishing() as staging:
        staged = _staged_checkpoint(staging, step, CHECKS[draft.kind], ("", NO_SHAPE), (base, others))
        with staging.committing() as install, registry.transactions.write() as tx:
            held_job(tx, lease)
            at = registry.transactions.now()
            unnumbered = Revision(
                adapter=draft.adapter,
                number=0,
                state=RevisionState.READY,
                artifact=staged.artifact,
                base=base.name,
                base_digest=base.digest,
                rank=staged.rank,
                target_modules=staged.target_modules,
                alias=None,
                job_id=lease.job_id,
                owner=draft.owner,
                created_at=at,
            )
            insert_checkpoints(tx, unnumbered, draft.kind, [staged])
            detail = {"artifact": staged.artifact, "job": lease.job_id}
            write_audit(tx, Act(actor=draft.owner, action="checkpoint.publish", subject=step.alias, detail=detail), at)
            install(tx)


def _staged(
    staging: Staging, folder: Path, check: Check, base: Base, others: Sequence[Base]
) -> tuple[str, AdapterShape]:
    """Return digest and shape of a checked copy of *folder*. Raises `AdapterRejected`."""
    artifact = staging.put_folder(folder)
    # The copy is checked, not *folder*, whose bytes may still change.
    copy = staging.folder(artifact)
    shape = check(copy, base)
    check_claim(copy, base, others)
    return artifact, shape


def _staged_checkpoint(
    staging: Staging,
    draft: ServedCheckpointDraft,
    check: Check,
    result: tuple[str, AdapterShape],
    bases: tuple[Base, Sequence[Base]],
) -> StagedCheckpoint:
    artifact, shape = result if draft.folder is None else _staged(staging, draft.folder, check, *bases)
    return StagedCheckpoint(
        step=draft.step,
        alias=draft.alias,
        artifact=artifact,
        rank=shape.rank,
        target_modules=shape.target_modules,
        is_result=draft.folder is None,
        expires_at=draft.expires_at,
    )


def _enter(tx: sa.Connection, entry: _Entry) -> Revision:
    adapter = _entered_adapter(tx, entry)
    revision = _insert_revision(tx, entry)
    insert_checkpoints(tx, revision, entry.draft.kind, entry.checkpoints)
    detail = {"artifact": revision.artifact, "job": revision.job_id}
    act = Act(actor=revision.owner, action="revision.publish", subject=revision.served_name, detail=detail)
    write_audit(tx, act, entry.at)
    begun = _begin_rollout(tx, entry, adapter, revision)
    if entry.end is not None:
        published = PublishedResult(
            name=revision.alias or revision.served_name,
            facts={"revision": revision.served_name, "artifact": entry.artifact},
            revision=revision.number,
            notes=_rollout_notes(entry, revision, begun),
        )
        succeed_job(tx, entry.end, published, entry.at)
    return revision


def _rollout_notes(entry: _Entry, revision: Revision, begun: Rollout | None) -> list[JobNote]:
    if begun is not None:
        return [JobNote(message=f"Rollout {begun.id} of {revision.served_name} started")]
    if entry.rollout is None:
        return []
    message = f"No rollout of {revision.served_name}: another one is open, or the adapter has no stable revision"
    return [JobNote(message=message, level="warn")]


def _entered_adapter(tx: sa.Connection, entry: _Entry) -> Adapter:
    """Return the adapter, new or not, with its row locked, so that concurrent publications get different numbers."""
    name, kind = entry.draft.adapter, entry.draft.kind
    check_names(tx, name, entry.base, kind)
    row = {"name": name, "base": entry.base.name, "created_at": entry.at, "kind": kind}
    insert_or_ignore(tx, tables.adapters, row)
    adapter = find_adapter(tx, name, lock=True)
    # Checked again under the lock: since the first check the adapter may have been made for another base.
    check_names(tx, name, entry.base, kind)
    return adapter


def check_names(tx: sa.Connection, adapter: str, base: Base, kind: AdapterKind = AdapterKind.CHAT) -> None:
    """Raise `Conflict` if *adapter* is the name of a base model, or of an adapter of another base or *kind*."""
    if tx.execute(sa.select(tables.bases.c.name).where(tables.bases.c.name == adapter)).first() is not None:
        raise Conflict(f"{adapter!r} is the name of a base model; publish under another name")
    table = tables.adapters
    other = tx.execute(sa.select(table.c.base, table.c.kind).where(table.c.name == adapter)).one_or_none()
    if other is None:
        return
    if other.base != base.name:
        raise Conflict(f"adapter {adapter!r} is for base model {other.base!r}, not {base.name!r}")
    if other.kind != kind:
        raise Conflict(f"{adapter!r} is a series of {other.kind} models, not of {kind} models; take another name")


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
    # Without a stable revision there is nothing to compare with, but a gate decides by scores alone.
    if entry.rollout is None or (adapter.stable is None and entry.rollout.gate is None):
        return None
    if entry.end is not None and find_open_rollout(tx, adapter.name) is not None:
        return None
    check_startable(tx, adapter, revision)
    rollout = draft_rollout(adapter, revision.number, entry.rollout, actor=revision.owner, at=entry.at)
    insert_rollout(tx, rollout)
    return rollout
