"""Checkpoints: base models that jobs made, with full or merged weights. They are published once and can be deleted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import count
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from registry import tables
from registry.artifacts import folder_files
from registry.audit import Act, write_audit
from registry.bases import find_base
from registry.database import Registry
from registry.errors import AdapterRejected, Conflict
from registry.jobs.adapter_owners import AdapterOwner, put_owner
from registry.jobs.job import ENDED, Lease
from registry.publishing.adapter_name import check_adapter_name
from registry.publishing.adapter_weights import Matrix
from registry.publishing.checks import HARMLESS_SUFFIXES, base_files
from registry.publishing.job_end import JobEnd, PublishedResult, put_results, succeed_job
from registry.publishing.tensor_files import FLOATS, Shapes, read_shapes, read_tensors
from registry.transactions import insert_or_ignore
from registry.types import Base, CheckpointDraft, ReplicaState

NEEDED = ("config.json", "tokenizer_config.json")


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
    parent = registry.bases.get(draft.parent)
    with registry.artifacts.publishing() as staging:
        digest = staging.put_folder(folder)
        stored = None if results is None else put_results(staging, results)
        # The copy is checked, not *folder*, whose bytes may still change.
        check_checkpoint(staging.folder(digest), Path(parent.path))
        with staging.committing() as install, registry.transactions.write() as tx:
            made = Base(
                name="",
                path=str(registry.artifacts.folders / digest),
                digest=digest,
                licence=parent.licence,
                created_at=registry.transactions.now(),
                parent=parent.name,
                job_id=None if lease is None else lease.job_id,
                owner=draft.owner,
                provenance=dict(draft.provenance),
            )
            base = _enter(tx, made, draft)
            if lease is not None:
                end = JobEnd(lease=lease, trained_tokens=trained_tokens, results=stored)
                published = PublishedResult(name=base.name, facts={"checkpoint": base.name, "artifact": digest})
                succeed_job(tx, end, published, made.created_at)
            install()
    return base


def _enter(tx: sa.Connection, made: Base, draft: CheckpointDraft) -> Base:
    """Store *made* under the first free name of its series and return it."""
    for name in _names(draft.series):
        if _is_taken(tx, name) or not insert_or_ignore(tx, tables.bases, asdict(made) | {"name": name}):
            continue
        owner = AdapterOwner(adapter=name, tenant=draft.tenant, is_shared=draft.is_shared, claimed_at=made.created_at)
        put_owner(tx, owner)
        detail = {"parent": made.parent, "artifact": made.digest, "job": made.job_id}
        act = Act(actor=made.owner, action="checkpoint.publish", subject=name, detail=detail)
        write_audit(tx, act, made.created_at)
        return find_base(tx, name)
    raise AssertionError  # the names never end


def _names(series: str) -> Iterator[str]:
    """Yield the names that a checkpoint of *series* may have, all of them legal: `support-1`, `support-2`, ..."""
    for number in count(1):
        ending = f"-{number}"
        yield series[: 64 - len(ending)] + ending


def _is_taken(tx: sa.Connection, name: str) -> bool:
    # A claimed name has an owner before its adapter exists.
    columns = (tables.bases.c.name, tables.adapters.c.name, tables.adapter_owners.c.adapter)
    return any(tx.execute(sa.select(column).where(column == name)).first() is not None for column in columns)


def check_checkpoint(folder: Path, parent_folder: Path) -> None:
    """Raise `AdapterRejected` unless *folder* is a whole model of its parent's shape with other, finite weights."""
    names = folder_files(folder)
    for name in names:
        if Path(name).suffix not in HARMLESS_SUFFIXES | {".safetensors"}:
            raise AdapterRejected(f"{name}: not part of a checkpoint, or may run code when it is loaded")
    for name in NEEDED:
        if name not in names:
            raise AdapterRejected(f"{name}: missing; the folder has {', '.join(names) or 'no files'}")
    files, own = _weights(folder), _weights(parent_folder)
    if (shapes := read_shapes(files, FLOATS)) != (expected := read_shapes(own)):
        raise AdapterRejected(f"the checkpoint's tensors are not those of its parent: {_difference(shapes, expected)}")
    if not _differs(files, own):
        raise AdapterRejected("the checkpoint has no effect: all of its weights are those of its parent")


def _weights(folder: Path) -> list[Path]:
    return [path for path in base_files(folder) if path.is_file()]


def _difference(shapes: Shapes, expected: Shapes) -> str:
    for name in sorted({*shapes, *expected}):
        if shapes.get(name) != expected.get(name):
            found, wanted = shapes.get(name), expected.get(name)
            return f"{name} is {list(found) if found else 'missing'}, expected {list(wanted) if wanted else 'none'}"
    return "none"


def _differs(files: list[Path], own: list[Path]) -> bool:
    """Whether a weight differs; `AdapterRejected` names one that is not finite. Tensors are read singly."""
    parents = {name: path for path in own for name in read_shapes([path])}
    differs = False
    for path in files:
        for name, dtype, bits in read_tensors(path):
            values = Matrix(bits=bits, dtype=dtype).widened()
            if not np.isfinite(values).all():
                raise AdapterRejected(f"{path.name}: {name} has values that are not finite (NaN or infinity)")
            if not differs:
                found = ((kind, theirs) for other, kind, theirs in read_tensors(parents[name]) if other == name)
                differs = any(not np.array_equal(Matrix(bits=b, dtype=d).widened(), values) for d, b in found)
    return differs


def delete_checkpoint(registry: Registry, name: str, actor: str) -> None:
    """Remove a checkpoint and its weights. `NotFound`, or `Conflict` for an entered folder and while it is in use."""
    digest = registry.bases.get(name).digest
    # The transaction is the inner context: the row is gone when `discarding` looks for rows with these bytes.
    with registry.artifacts.discarding(digest), registry.transactions.write() as tx:
        base = find_base(tx, name)
        if not base.is_checkpoint:
            raise Conflict(f"base model {name!r} was entered from a folder; only checkpoints of jobs can be deleted")
        if users := _users(tx, name):
            raise Conflict(f"checkpoint {name!r} is in use by {', '.join(users[:5])}")
        tx.execute(sa.delete(tables.adapter_owners).where(tables.adapter_owners.c.adapter == name))
        tx.execute(sa.delete(tables.bases).where(tables.bases.c.name == name))
        detail = {"artifact": base.digest, "parent": base.parent}
        act = Act(actor=actor, action="checkpoint.delete", subject=name, detail=detail)
        write_audit(tx, act, registry.transactions.now())


def _users(tx: sa.Connection, name: str) -> list[str]:
    """Return what needs the base model *name*, in words."""
    adapters, replicas, entered, jobs = tables.adapters, tables.replicas, tables.entered_engines, tables.jobs
    present = sa.and_(replicas.c.base == name, replicas.c.state != ReplicaState.GONE)
    reading = sa.and_(jobs.c.state.not_in(ENDED), jobs.c.spec["base"].as_string() == name)
    return [
        *(
            f"adapter {each}"
            for each in tx.execute(sa.select(adapters.c.name).where(adapters.c.base == name)).scalars()
        ),
        *(f"replica {each}" for each in tx.execute(sa.select(replicas.c.id).where(present)).scalars()),
        *(f"engine {each}" for each in tx.execute(sa.select(entered.c.id).where(entered.c.base == name)).scalars()),
        *(f"job {each}" for each in tx.execute(sa.select(jobs.c.id).where(reading)).scalars()),
    ]
