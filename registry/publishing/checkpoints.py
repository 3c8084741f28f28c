"""Checkpoints: base models that jobs made, with full or merged weights. They are published once and can be deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from registry import tables
from registry.artifacts import Staging
from registry.audit import Act, write_audit
from registry.bases import find_base
from registry.database import Registry, Snapshot
from registry.errors import Conflict, NotFound
from registry.jobs.adapter_owners import AdapterOwner, put_owner
from registry.jobs.base_uses import users_of_base
from registry.jobs.job import Lease
from registry.publishing.adapter_name import check_adapter_name
from registry.publishing.checkpoint_forms.quantized_models import check_gguf, check_quantized
from registry.publishing.checkpoint_forms.whole_models import check_checkpoint
from registry.publishing.job_end import JobEnd, PublishedResult, put_results, succeed_job
from registry.states import CheckpointForm
from registry.transactions import insert_or_ignore
from registry.types import Base, CheckpointDraft, ServedCheckpointDraft

CHECKS: Final[Mapping[CheckpointForm, Callable[[Path, Path], None]]] = {
    CheckpointForm.FULL: check_checkpoint,
    CheckpointForm.QUANTIZED: check_quantized,
    CheckpointForm.GGUF: check_gguf,
}
"""Form of a checkpoint -> what raises `AdapterRejected` unless a folder is a whole model of its parent's shape."""


def publish_checkpoint(  # noqa: PLR0913  a publication is exactly these facts
    registry: Registry,
    folder: Path,
    draft: CheckpointDraft,
    *,
    lease: Lease | None = None,
    trained_tokens: int | None = None,
    results: bytes | None = None,
) -> Base:
    """Publish *folder* as a base model of its own and end the job of *lease*; or do nothing.

    Raises `AdapterRejected`, `NotFound` (parent), `LeaseLost`, `StaleState` (cancelled), `StorageFull`.
    """
    check_adapter_name(draft.series)
    parent = registry.at_hand(registry.bases.get(draft.parent))
    with registry.artifacts.publishing() as staging:
        check = CHECKS[draft.form]
        digest = _staged(staging, folder, parent, check)
        earlier = {
            each: _staged(staging, each.folder, parent, check) for each in draft.steps if each.folder is not None
        }
        stored = None if results is None else put_results(staging, results)
        with staging.committing() as install, registry.transactions.write() as tx:
            last = next((each for each in draft.steps if each.folder is None), None)
            made = Base(
                name="",
                path=registry.artifacts.location(digest),
                digest=digest,
                licence=parent.licence,
                created_at=registry.transactions.now(),
                parent=parent.name,
                job_id=None if lease is None else lease.job_id,
                owner=draft.owner,
                provenance=dict(draft.provenance),
                step=None if last is None else last.step,
                alias=None if last is None else last.alias,
            )
            base = _enter(tx, made, draft)
            for step, found in earlier.items():
                _enter_step(tx, base, draft, step, (found, registry.artifacts.location(found)))
            if lease is not None:
                end = JobEnd(lease=lease, trained_tokens=trained_tokens, results=stored)
                published = PublishedResult(name=base.name, facts={"checkpoint": base.name, "artifact": digest})
                succeed_job(tx, end, published, made.created_at)
            install(tx)
    return base


def _staged(staging: Staging, folder: Path, parent: Base, check: Callable[[Path, Path], None]) -> str:
    digest = staging.put_folder(folder)
    # The copy is checked, not *folder*, whose bytes may still change.
    check(staging.folder(digest), Path(parent.path))
    return digest


def _enter(tx: sa.Connection, made: Base, draft: CheckpointDraft) -> Base:
    """Store *made* under the first free name of its series, with names for its steps free too, and return it."""
    for name in _names(draft.series):
        if any(_is_taken(tx, each) for each in (name, *(_step_name(name, step.step) for step in draft.steps))):
            continue
        if insert_or_ignore(tx, tables.bases, asdict(made) | {"name": name}):
            return _entered(tx, replace(made, name=name), draft)
    raise AssertionError  # the names never end


def _enter_step(
    tx: sa.Connection, result: Base, draft: CheckpointDraft, step: ServedCheckpointDraft, artifact: tuple[str, str]
) -> None:
    """Store an earlier step of the job of *result*, whose weights have this digest at this place."""
    digest, path = artifact
    # What was measured is the result's; the list of the job's checkpoints has the figures of the step.
    provenance = {name: fact for name, fact in result.provenance.items() if name not in ("metrics", "trained_tokens")}
    made = replace(
        result,
        name=_step_name(result.name, step.step),
        path=path,
        digest=digest,
        provenance=provenance,
        step=step.step,
        alias=step.alias,
        expires_at=step.expires_at,
    )
    if not insert_or_ignore(tx, tables.bases, asdict(made)):
        raise Conflict(f"base model {made.name!r} was made a moment ago; publish again")
    _entered(tx, made, draft)


def _entered(tx: sa.Connection, made: Base, draft: CheckpointDraft) -> Base:
    owner = AdapterOwner(adapter=made.name, tenant=draft.tenant, is_shared=draft.is_shared, claimed_at=made.created_at)
    put_owner(tx, owner)
    detail = {"parent": made.parent, "artifact": made.digest, "job": made.job_id}
    act = Act(actor=made.owner, action="checkpoint.publish", subject=made.name, detail=detail)
    write_audit(tx, act, made.created_at)
    return find_base(tx, made.name)


def _names(series: str) -> Iterator[str]:
    """Yield the names that a checkpoint of *series* may have, all of them legal: `support-1`, `support-2`, ..."""
    for number in count(1):
        yield _with_ending(series, f"-{number}")


def _step_name(result: str, step: int) -> str:
    """Return the name of an earlier step of the job that made *result*: `support-1-step-88`."""
    return _with_ending(result, f"-step-{step}")


def _with_ending(name: str, ending: str) -> str:
    return name[: 64 - len(ending)] + ending


def _is_taken(tx: sa.Connection, name: str) -> bool:
    # A claimed name has an owner before its adapter exists.
    columns = (tables.bases.c.name, tables.adapters.c.name, tables.adapter_owners.c.adapter)
    return any(tx.execute(sa.select(column).where(column == name)).first() is not None for column in columns)


def delete_checkpoint(registry: Registry, name: str, actor: str) -> None:
    """Remove a checkpoint and its weights. `NotFound`, or `Conflict` for an entered folder and while it is in use."""
    digest = registry.bases.get(name).digest
    # The transaction is the inner context: the row is gone when `discarding` looks for rows with these bytes.
    with registry.artifacts.discarding(digest), registry.transactions.write() as tx:
        base = find_base(tx, name)
        if not base.is_checkpoint:
            raise Conflict(f"base model {name!r} was entered from a folder; only checkpoints of jobs can be deleted")
        if users := users_of_base(tx, name):
            raise Conflict(f"checkpoint {name!r} is in use by {', '.join(users[:5])}")
        tx.execute(sa.delete(tables.adapter_owners).where(tables.adapter_owners.c.adapter == name))
        tx.execute(sa.delete(tables.bases).where(tables.bases.c.name == name))
        detail = {"artifact": base.digest, "parent": base.parent}
        act = Act(actor=actor, action="checkpoint.delete", subject=name, detail=detail)
        write_audit(tx, act, registry.transactions.now())


def expire_checkpoints(registry: Registry, snapshot: Snapshot) -> list[str]:
    """Delete the earlier steps whose time is over and that nothing uses; return their names."""
    now = registry.transactions.now()
    used = {*(each.base for each in snapshot.adapters), *(each.base for each in snapshot.replicas)}
    over = [base for base in snapshot.bases if base.expires_at is not None and base.expires_at <= now]
    deleted = []
    for base in over:
        if base.name in used:
            continue
        with suppress(NotFound, Conflict):  # a job reads it, or another process was quicker
            delete_checkpoint(registry, base.name, "controller")
            deleted.append(base.name)
    return deleted
