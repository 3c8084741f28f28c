"""Inference servers as they last described themselves."""

from __future__ import annotations

import builtins
from dataclasses import asdict
from typing import Final

import sqlalchemy as sa

from registry import tables
from registry.errors import NotFound
from registry.transactions import Transactions, upsert
from registry.types import Replica, ReplicaState, Slot, SlotState

GONE_KEPT_S: Final = 86400.0
"""How long a replica that is gone stays in the list."""


def replica_of(row: sa.RowMapping) -> Replica:
    """A row of `replicas` as a value."""
    slots = tuple(Slot(**(slot | {"state": SlotState(slot["state"])})) for slot in row["slots"])
    kept = {"state": ReplicaState(row["state"]), "slots": slots, "paths": tuple(row["paths"])}
    return Replica(**(dict(row) | kept))


class ReplicaStore:
    """Replicas write themselves into it; whoever stops doing so is gone."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions

    def report(self, replica: Replica) -> None:
        """Store what the replica says of itself, with the heartbeat of now."""
        slots = [asdict(slot) for slot in replica.slots]
        with self._tx.write() as tx:
            row = asdict(replica) | {"slots": slots, "paths": list(replica.paths), "heartbeat_at": self._tx.now()}
            upsert(tx, tables.replicas, ("id",), row)

    def get(self, replica_id: str) -> Replica:
        """The replica with this id, else `NotFound`."""
        query = sa.select(tables.replicas).where(tables.replicas.c.id == replica_id)
        with self._tx.read() as tx:
            row = tx.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFound(f"there is no replica {replica_id!r}")
        return replica_of(row)

    def list(self) -> builtins.list[Replica]:
        """Every replica by id, those that went within the last day included."""
        with self._tx.read() as tx:
            rows = tx.execute(sa.select(tables.replicas).order_by(tables.replicas.c.id)).mappings()
            return [replica_of(row) for row in rows]

    def mark_gone(self, replica_id: str) -> None:
        """The replica left; `NotFound` if it never was here."""
        with self._tx.write() as tx:
            update = sa.update(tables.replicas).where(tables.replicas.c.id == replica_id)
            if tx.execute(update.values(state=ReplicaState.GONE, slots=[])).rowcount != 1:
                raise NotFound(f"there is no replica {replica_id!r}")

    def expire(self, older_than_s: float) -> builtins.list[str]:
        """Ids of the replicas whose last heartbeat is older than that: from now on they are gone."""
        with self._tx.write() as tx:
            now = self._tx.now()
            gone = tables.replicas.c.state == ReplicaState.GONE
            silent = sa.and_(sa.not_(gone), tables.replicas.c.heartbeat_at < now - older_than_s)
            message = f"no heartbeat for {older_than_s:g} s"
            update = sa.update(tables.replicas).where(silent)
            update = update.values(state=ReplicaState.GONE, slots=[], message=message)
            ids = tx.execute(update.returning(tables.replicas.c.id)).scalars().all()
            old = tables.replicas.c.heartbeat_at < now - GONE_KEPT_S
            tx.execute(sa.delete(tables.replicas).where(gone, old))
            return sorted(ids)
