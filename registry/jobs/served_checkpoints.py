"""Checkpoints that answer requests beside the revision of their job, until they expire or somebody retires them.

Base model, rank and owner are those of the revision, and every one of its weights' bytes stays as long as a replica may
read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from registry import tables
from registry.artifacts import ArtifactStore
from registry.audit import Act, write_audit
from registry.columns import at, metadata
from registry.errors import NotFound, NotServable
from registry.transactions import Transactions
from registry.types import Replica, ReplicaState, Revision, RevisionState, ServedCheckpoint

served_checkpoints: Final = sa.Table(
    "served_checkpoints",
    metadata,
    sa.Column("adapter", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("step", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("artifact", sa.Text, nullable=False, index=True),
    sa.Column("alias", sa.Text, nullable=False, unique=True),
    sa.Column("is_result", sa.Boolean, nullable=False),
    at("expires_at", nullable=True),
    at("discarded_at", nullable=True),
    sa.ForeignKeyConstraint(["adapter", "number"], ["revisions.adapter", "revisions.number"]),
)
"""Checkpoints that answer requests, by the revision that their job published and their step."""

_OF_REVISION: Final = ("base", "base_digest", "rank", "target_modules", "job_id", "owner", "created_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedCheckpoint:
    """A checkpoint whose bytes are on their way into the store."""

    step: int
    alias: str
    artifact: str
    is_result: bool
    expires_at: float | None


def insert_checkpoints(tx: sa.Connection, revision: Revision, staged: Iterable[StagedCheckpoint]) -> None:
    """Store the checkpoints that are published together with *revision*."""
    for each in staged:
        row = {
            "adapter": revision.adapter,
            "number": revision.number,
            "step": each.step,
            "state": RevisionState.READY,
            "artifact": each.artifact,
            "alias": each.alias,
            "is_result": each.is_result,
            "expires_at": each.expires_at,
        }
        tx.execute(sa.insert(served_checkpoints).values(row))


def ready_checkpoints(tx: sa.Connection) -> list[ServedCheckpoint]:
    """Return the checkpoints that may be served, by adapter, revision and step."""
    return _found(tx, served_checkpoints.c.state == RevisionState.READY)


def stored_artifacts() -> sa.Select[Any]:
    """Return the query for the digests of the checkpoints whose bytes are kept."""
    return sa.select(served_checkpoints.c.artifact).where(served_checkpoints.c.discarded_at.is_(None))


class ServedCheckpointStore:
    """Reads and retires served checkpoints; `registry.publishing.publish` adds them."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions

    def of_job(self, job_id: str) -> list[ServedCheckpoint]:
        """Return every checkpoint that was published with the job, retired ones included."""
        with self._tx.read() as tx:
            return _found(tx, tables.revisions.c.job_id == job_id)

    def find(self, name: str) -> ServedCheckpoint | None:
        """Return the checkpoint with this alias or served name; None if no checkpoint has it."""
        with self._tx.read() as tx:
            return _named(tx, name)

    def retire(self, name: str, actor: str) -> ServedCheckpoint:
        """Take the checkpoint with this alias or served name out of service. Raises `NotFound` or `NotServable`."""
        with self._tx.write() as tx:
            found = _named(tx, name)
            if found is None:
                raise NotFound(f"there is no checkpoint {name!r}")
            if found.state is RevisionState.RETIRED:
                raise NotServable(f"{found.alias} is retired already")
            _retire(
                tx, found, Act(actor=actor, action="checkpoint.retire", subject=found.alias or name), self._tx.now()
            )
            return _only(tx, found)

    def expire(self, checkpoints: Sequence[ServedCheckpoint]) -> list[str]:
        """Retire those of *checkpoints* whose time is over, and return their served names."""
        now = self._tx.now()
        over = [each for each in checkpoints if each.expires_at is not None and each.expires_at <= now]
        if not over:
            return []
        with self._tx.write() as tx:
            return [
                each.served_name
                for each in over
                if _retire(tx, each, Act(actor="controller", action="checkpoint.expire", subject=each.alias or ""), now)
            ]

    def discard_retired(self, artifacts: ArtifactStore, replicas: Sequence[Replica]) -> list[str]:
        """Remove the bytes of retired checkpoints that none of *replicas* has; return their served names."""
        with self._tx.read() as tx:
            kept = served_checkpoints.c.discarded_at.is_(None)
            retired = _found(tx, sa.and_(served_checkpoints.c.state == RevisionState.RETIRED, kept))
        present = [replica for replica in replicas if replica.state is not ReplicaState.GONE]
        loaded = {slot.served_name for replica in present for slot in replica.slots}
        unused = [each for each in retired if each.is_result or each.served_name not in loaded]
        for each in unused:
            with artifacts.discarding(each.artifact), self._tx.write() as tx:
                tx.execute(sa.update(served_checkpoints).where(_is(each)).values(discarded_at=self._tx.now()))
        return [each.served_name for each in unused]


def _found(tx: sa.Connection, condition: sa.ColumnElement[bool]) -> list[ServedCheckpoint]:
    own = [column for column in served_checkpoints.columns if column.name != "discarded_at"]
    query = (
        sa.select(*own, *(tables.revisions.c[name] for name in _OF_REVISION))
        .join(
            tables.revisions,
            sa.and_(
                tables.revisions.c.adapter == served_checkpoints.c.adapter,
                tables.revisions.c.number == served_checkpoints.c.number,
            ),
        )
        .where(condition)
        .order_by(served_checkpoints.c.adapter, served_checkpoints.c.number, served_checkpoints.c.step)
    )
    return [_checkpoint_of(row) for row in tx.execute(query).mappings()]


def _checkpoint_of(row: sa.RowMapping) -> ServedCheckpoint:
    changed = {"state": RevisionState(row["state"]), "target_modules": tuple(row["target_modules"])}
    return ServedCheckpoint(**(dict(row) | changed))


def _named(tx: sa.Connection, name: str) -> ServedCheckpoint | None:
    revision, _, step = name.rpartition("-step-")
    adapter, _, number = revision.rpartition("@")
    condition = served_checkpoints.c.alias == name
    # Digits of other scripts are digits as well, and longer numbers do not fit a column.
    if all(part.isascii() and part.isdigit() and len(part) < 10 for part in (number, step)):
        table = served_checkpoints.c
        own = sa.and_(table.adapter == adapter, table.number == int(number), table.step == int(step))
        condition = sa.or_(condition, sa.and_(own, table.is_result.is_(False)))
    return next(iter(_found(tx, condition)), None)


def _only(tx: sa.Connection, checkpoint: ServedCheckpoint) -> ServedCheckpoint:
    return _found(tx, _is(checkpoint))[0]


def _is(checkpoint: ServedCheckpoint) -> sa.ColumnElement[bool]:
    table = served_checkpoints.c
    return sa.and_(
        table.adapter == checkpoint.adapter, table.number == checkpoint.number, table.step == checkpoint.step
    )


def _retire(tx: sa.Connection, checkpoint: ServedCheckpoint, act: Act, now: float) -> bool:
    """Retire a ready checkpoint and record it; return False if somebody was quicker."""
    ready = sa.and_(_is(checkpoint), served_checkpoints.c.state == RevisionState.READY)
    moved = tx.execute(sa.update(served_checkpoints).where(ready).values(state=RevisionState.RETIRED))
    if moved.rowcount == 1:
        write_audit(tx, act, now)
    return moved.rowcount == 1
