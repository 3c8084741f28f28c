"""Replicas as they last reported themselves."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Final

import orjson
import sqlalchemy as sa

from registry import tables
from registry.changes import UNCOUNTED
from registry.errors import NotFound
from registry.liveness.silence import SilenceWatch
from registry.transactions import Transactions, upsert
from registry.types import Replica, ReplicaState, Slot, SlotState

GONE_KEPT_S: Final = 86400.0
"""How long a replica that is gone stays in the table."""
PASSING: Final = ("heartbeat_at", "load", "memory_bytes")
"""Reported fields whose change nobody needs to act on."""
LISTS: Final = ("slots", "paths")
"""Columns that hold JSON."""


def replica_of(row: Mapping[str, Any] | sa.RowMapping) -> Replica:
    """Return a row of `replicas` as a value."""
    slots = tuple(Slot(**(slot | {"state": SlotState(slot["state"])})) for slot in row["slots"])
    kept = {"state": ReplicaState(row["state"]), "slots": slots, "paths": tuple(row["paths"])}
    return Replica(**(dict(row) | kept))


class ReplicaReader:
    """Reads the replicas that are not gone, and parses only the rows that changed since the last reading."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Replica] = {}
        # Read as text, the lists can be part of a key, and JSON is parsed only where a row is new.
        parsed = [sa.cast(tables.replicas.c[name], sa.Text) for name in LISTS]
        lasting = [column for column in tables.replicas.columns if column.name not in (*LISTS, *PASSING)]
        present = sa.select(*parsed, *lasting).where(tables.replicas.c.state != ReplicaState.GONE)
        self._query = present.order_by(tables.replicas.c.id)
        self._names = [column.name for column in lasting]

    def read(self, tx: sa.Connection) -> list[Replica]:
        """Return the replicas by id; their `PASSING` fields are not current, see `with_passing_fields`."""
        known, found = self._known, {}
        for row in tx.execute(self._query):
            values = tuple(row)
            found[values] = known.get(values) or self._parsed(values)
        # Replaced as a whole: a thread that reads at the same time keeps the dictionary with which it began.
        self._known = found
        return list(found.values())

    def _parsed(self, values: tuple[Any, ...]) -> Replica:
        row = dict(zip((*LISTS, *self._names), values, strict=True))
        lists = {name: orjson.loads(row[name]) for name in LISTS}
        return replica_of(row | lists | {"heartbeat_at": 0.0, "load": 0, "memory_bytes": None})


def with_passing_fields(tx: sa.Connection, replicas: tuple[Replica, ...]) -> tuple[Replica, ...]:
    """Return *replicas* with the `PASSING` fields that the database has now."""
    columns = [tables.replicas.c[name] for name in ("id", *PASSING)]
    present = sa.select(*columns).where(tables.replicas.c.state != ReplicaState.GONE)
    passing = {row[0]: dict(zip(PASSING, row[1:], strict=True)) for row in tx.execute(present)}
    return tuple(replace(each, **passing.get(each.id, {})) for each in replicas)


def _is_unchanged(tx: sa.Connection, row: Mapping[str, Any]) -> bool:
    columns = [column for column in tables.replicas.columns if column.name not in PASSING]
    stored = tx.execute(sa.select(*columns).where(tables.replicas.c.id == row["id"])).mappings().one_or_none()
    return stored is not None and all(stored[name] == row[name] for name in stored)


class ReplicaStore:
    """Stores the reports of replicas; a replica that stops reporting is gone."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions
        self._heartbeats = SilenceWatch(transactions.steady)

    def report(self, replica: Replica) -> None:
        """Store the replica's report with the heartbeat of now.

        If only `PASSING` fields are new, only these are written, which counts as no change of the table.
        """
        slots = [asdict(slot) for slot in replica.slots]
        with self._tx.write() as tx:
            row = asdict(replica) | {"slots": slots, "paths": list(replica.paths), "heartbeat_at": self._tx.now()}
            if _is_unchanged(tx, row):
                beat = sa.update(tables.replicas).where(tables.replicas.c.id == replica.id)
                beat = beat.values({name: row[name] for name in PASSING})
                tx.execute(beat, execution_options={UNCOUNTED: True})
            else:
                upsert(tx, tables.replicas, ("id",), row)

    def get(self, replica_id: str) -> Replica:
        """Return the replica with this id. Raises `NotFound`."""
        query = sa.select(tables.replicas).where(tables.replicas.c.id == replica_id)
        with self._tx.read() as tx:
            row = tx.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFound(f"there is no replica {replica_id!r}")
        return replica_of(row)

    def list(self) -> builtins.list[Replica]:
        """Return every replica by id, including those that went within the last day."""
        with self._tx.read() as tx:
            rows = tx.execute(sa.select(tables.replicas).order_by(tables.replicas.c.id)).mappings()
            return [replica_of(row) for row in rows]

    def mark_gone(self, replica_id: str) -> None:
        """Mark the replica as gone. Raises `NotFound`."""
        with self._tx.write() as tx:
            update = sa.update(tables.replicas).where(tables.replicas.c.id == replica_id)
            if tx.execute(update.values(state=ReplicaState.GONE, slots=[])).rowcount != 1:
                raise NotFound(f"there is no replica {replica_id!r}")

    def expire(self, older_than_s: float) -> builtins.list[str]:
        """Mark replicas as gone that sent no heartbeat for *older_than_s*, and return their ids.

        The time is measured here, from one call to a later one, so that no clock that jumps removes a replica.
        """
        columns = tables.replicas.c
        gone = columns.state == ReplicaState.GONE
        old = sa.and_(gone, columns.heartbeat_at < self._tx.now() - GONE_KEPT_S)
        with self._tx.read() as tx:
            # The controller asks several times a second; writing each time would hold up SQLite's other writers.
            living = tx.execute(sa.select(columns.id, columns.heartbeat_at).where(~gone))
            beats = {row.id: row.heartbeat_at for row in living}
            has_old = tx.execute(sa.select(sa.literal(1)).where(old).limit(1)).first() is not None
        silences = self._heartbeats.look(beats)
        quiet = [replica_id for replica_id, silent_s in silences.items() if silent_s > older_than_s]
        if not quiet and not has_old:
            return []
        silent = sa.or_(
            sa.false(), *(sa.and_(~gone, columns.id == each, columns.heartbeat_at == beats[each]) for each in quiet)
        )
        with self._tx.write() as tx:
            message = f"no heartbeat for {older_than_s:g} s"
            update = sa.update(tables.replicas).where(silent)
            update = update.values(state=ReplicaState.GONE, slots=[], message=message)
            ids = tx.execute(update.returning(tables.replicas.c.id)).scalars().all()
            tx.execute(sa.delete(tables.replicas).where(old))
            return sorted(ids)
