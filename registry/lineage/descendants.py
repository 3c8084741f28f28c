"""The things that were made of a model, a file or a job."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from registry import tables
from registry.adapters import revision_of
from registry.database import Registry
from registry.lineage.node import LineageNode, NodeKind, NodeState
from registry.states import RevisionState
from registry.types import Base, Revision

_DEEPEST = 20


def made_of_base(registry: Registry, name: str, digest: str | None, depth: int = 0) -> Iterator[LineageNode]:
    """Yield the revisions that were trained on the base model, and the checkpoints that were made from it."""
    revisions = tables.revisions.c
    same = (
        revisions.base == name if digest is None else sa.and_(revisions.base == name, revisions.base_digest == digest)
    )
    yield from _revisions(registry, same, "trained on it", depth)
    yield from _checkpoints(registry, tables.bases.c.parent == name, "made from it", depth)


def made_of_revision(registry: Registry, name: str, depth: int = 0) -> Iterator[LineageNode]:
    """Yield the checkpoints into which the revision was merged."""
    merged = tables.bases.c.provenance["adapter"]["name"].as_string() == name
    yield from _checkpoints(registry, merged, "merged into", depth)


def made_of_file(registry: Registry, digest: str) -> Iterator[LineageNode]:
    """Yield the results that were trained, validated or calibrated on the bytes of a file."""
    for field, relation in (
        ("dataset", "trained on it"),
        ("validation", "validated on it"),
        ("calibration", "calibrated on it"),
    ):
        revisions = tables.revisions.c.provenance[field]["sha256"].as_string() == digest
        yield from _revisions(registry, revisions, relation, 0)
        bases = tables.bases.c.provenance[field]["sha256"].as_string() == digest
        yield from _checkpoints(registry, bases, relation, 0)


def made_by_job(registry: Registry, job_id: str) -> Iterator[LineageNode]:
    """Yield what a job published."""
    yield from _revisions(registry, tables.revisions.c.job_id == job_id, "made by it", 0)
    yield from _checkpoints(registry, tables.bases.c.job_id == job_id, "made by it", 0)


def revisions_of(registry: Registry, adapter: str) -> Iterator[LineageNode]:
    """Yield every revision of an adapter."""
    yield from _revisions(registry, tables.revisions.c.adapter == adapter, "revision", 0)


def _revisions(registry: Registry, same: sa.ColumnElement[bool], relation: str, depth: int) -> Iterator[LineageNode]:
    query = sa.select(tables.revisions).where(same).order_by(tables.revisions.c.adapter, tables.revisions.c.number)
    with registry.transactions.read() as tx:
        found = [revision_of(row) for row in tx.execute(query).mappings()]
    for each in found:
        yield _revision(registry, each, relation, depth)


def _revision(registry: Registry, found: Revision, relation: str, depth: int) -> LineageNode:
    parts = tuple(made_of_revision(registry, found.served_name, depth + 1)) if depth < _DEEPEST else ()
    return LineageNode(
        kind=NodeKind.REVISION,
        name=found.served_name,
        relation=relation,
        state=NodeState.RETIRED if found.state is RevisionState.RETIRED else NodeState.PRESENT,
        digest=found.artifact,
        at=found.created_at,
        by=found.owner,
        facts={"job": found.job_id} if found.job_id else {},
        parts=parts,
    )


def _checkpoints(registry: Registry, same: sa.ColumnElement[bool], relation: str, depth: int) -> Iterator[LineageNode]:
    query = sa.select(tables.bases).where(same).order_by(tables.bases.c.name)
    with registry.transactions.read() as tx:
        found = [Base(**row) for row in tx.execute(query).mappings()]
    for each in found:
        facts = {"job": each.job_id, "scheme": each.provenance.get("scheme"), "source": each.provenance.get("source")}
        yield LineageNode(
            kind=NodeKind.CHECKPOINT,
            name=each.name,
            relation=relation,
            digest=each.digest,
            at=each.created_at,
            by=each.owner,
            facts={name: fact for name, fact in facts.items() if fact is not None},
            parts=tuple(made_of_base(registry, each.name, each.digest, depth + 1)) if depth < _DEEPEST else (),
        )
