"""Steps of jobs that are kept beside the result, until they expire or somebody retires them.

Checkpoints of adapters for chats answer requests, those of reward models serve graders. The bytes of each stay as
long as a replica, or a job that has not ended, may read them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from registry.artifacts import ArtifactStore
from registry.audit import Act, write_audit
from registry.columns import at, metadata
from registry.errors import NotFound, NotServable
from registry.states import AdapterKind, ReplicaState, RevisionState
from registry.transactions import Transactions, insert_or_ignore
from registry.types import Replica, Revision, ServedCheckpoint

served_checkpoints: Final = sa.Table(
    "served_checkpoints",
    metadata,
    sa.Column("job_id", sa.Text, primary_key=True),
    sa.Column("step", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("adapter", sa.Text, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("known_as", sa.Text, nullable=False, index=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("artifact", sa.Text, nullable=False, index=True),
    sa.Column("alias", sa.Text, nullable=False, unique=True),
    sa.Column("is_result", sa.Boolean, nullable=False),
    sa.Column("base", sa.Text, nullable=False),
    sa.Column("base_digest", sa.Text, nullable=False),
    sa.Column("rank", sa.Integer, nullable=False),
    sa.Column("target_modules", sa.JSON, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    at("created_at"),
    at("expires_at", nullable=True),
    at("discarded_at", nullable=True),
)
"""Steps of jobs that requests or graders may name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedCheckpoint:
    """A checkpoint whose bytes are on their way into the store."""

    step: int
    alias: str
    artifact: str
    rank: int
    target_modules: tuple[str, ...]
    is_result: bool
    expires_at: float | None


def insert_checkpoints(
    tx: sa.Connection, revision: Revision, kind: AdapterKind, staged: Iterable[StagedCheckpoint]
) -> None:
    """Store the steps of the job of *revision*, whose number is 0 while the job runs; those that are there stay."""
    job_id = revision.job_id or revision.served_name
    mark = str(revision.number) if revision.job_id is None else revision.job_id[-8:]
    for each in staged:
        row = {
            "job_id": job_id,
            "step": each.step,
            "adapter": revision.adapter,
            "number": revision.number,
            "known_as": revision.served_name if each.is_result else f"{revision.adapter}@{mark}-step-{each.step}",
            "kind": kind,
            "state": RevisionState.READY,
            "artifact": each.artifact,
            "alias": each.alias,
            "is_result": each.is_result,
            "base": revision.base,
            "base_digest": revision.base_digest,
            "rank": each.rank,
            "target_modules": list(each.target_modules),
            "owner": revision.owner,
            "created_at": revision.created_at,
            "expires_at": each.expires_at,
        }
        insert_or_ignore(tx, served_checkpoints, row)
    if revision.number:
        of_job = served_checkpoints.c.job_id == job_id
        tx.execute(sa.update(served_checkpoints).where(of_job).values(number=revision.number))


def ready_checkpoints(tx: sa.Connection) -> list[ServedCheckpoint]:
    """Return the checkpoints that may be named, of reward models too, by adapter, job and step."""
    return _found(tx, served_checkpoints.c.state == RevisionState.READY)


def stored_artifacts() -> sa.Select[Any]:
    """Return the query for the digests of the checkpoints whose bytes are kept."""
    return sa.select(served_checkpoints.c.artifact).where(served_checkpoints.c.discarded_at.is_(None))


class ServedCheckpointStore:
    """Reads and retires served checkpoints; `registry.publishing.publish` adds them."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions

    def of_job(self, job_id: str) -> list[ServedCheckpoint]:
        """Return every checkpoint that was published of the job, retired ones included."""
        with self._tx.read() as tx:
            return _found(tx, served_checkpoints.c.job_id == job_id)

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

    def discard_retired(
        self, artifacts: ArtifactStore, replicas: Sequence[Replica], read: Collection[str] = ()
    ) -> list[str]:
        """Remove the bytes of retired checkpoints that none of *replicas* has; return their served names.

        *read* has the digests of folders that jobs read.
        """
        with self._tx.read() as tx:
            kept = served_checkpoints.c.discarded_at.is_(None)
            retired = _found(tx, sa.and_(served_checkpoints.c.state == RevisionState.RETIRED, kept))
        present = [replica for replica in replicas if replica.state is not ReplicaState.GONE]
        loaded = {slot.served_name for replica in present for slot in replica.slots}
        unused = [each for each in retired if each.is_result or each.served_name not in loaded]
        unused = [each for each in unused if each.artifact not in read]
        for each in unused:
            with artifacts.discarding(each.artifact), self._tx.write() as tx:
                tx.execute(sa.update(served_checkpoints).where(_is(each)).values(discarded_at=self._tx.now()))
        return [each.served_name for each in unused]


def _found(tx: sa.Connection, condition: sa.ColumnElement[bool]) -> list[ServedCheckpoint]:
    table = served_checkpoints.c
    own = [column for column in served_checkpoints.columns if column.name != "discarded_at"]
    query = sa.select(*own).where(condition).order_by(table.adapter, table.created_at, table.job_id, table.step)
    return [_checkpoint_of(row) for row in tx.execute(query).mappings()]


def _checkpoint_of(row: sa.RowMapping) -> ServedCheckpoint:
    changed = {
        "state": RevisionState(row["state"]),
        "kind": AdapterKind(row["kind"]),
        "target_modules": tuple(row["target_modules"]),
    }
    return ServedCheckpoint(**(dict(row) | changed))


def _named(tx: sa.Connection, name: str) -> ServedCheckpoint | None:
    table = served_checkpoints.c
    own = sa.and_(table.known_as == name, table.is_result.is_(False))
    return next(iter(_found(tx, sa.or_(table.alias == name, own))), None)


def _only(tx: sa.Connection, checkpoint: ServedCheckpoint) -> ServedCheckpoint:
    return _found(tx, _is(checkpoint))[0]


def _is(checkpoint: ServedCheckpoint) -> sa.ColumnElement[bool]:
    return sa.and_(served_checkpoints.c.job_id == checkpoint.job_id, served_checkpoints.c.step == checkpoint.step)


def _retire(tx: sa.Connection, checkpoint: ServedCheckpoint, act: Act, now: float) -> bool:
    """Retire a ready checkpoint and record it; return False if somebody was quicker."""
    ready = sa.and_(_is(checkpoint), served_checkpoints.c.state == RevisionState.READY)
    moved = tx.execute(sa.update(served_checkpoints).where(ready).values(state=RevisionState.RETIRED))
    if moved.rowcount == 1:
        write_audit(tx, act, now)
    return moved.rowcount == 1
