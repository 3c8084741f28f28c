"""Replicas as they last reported themselves."""

from __future__ import annotations

import builtins
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

import sqlalchemy as sa

from registry.changes import REPLICA_PLACES, UNCOUNTED, note_change
from registry.errors import NotFound
from registry.liveness.silence import SilenceWatch
from registry.serving.serving_tables import replicas
from registry.states import ReplicaState, SlotState
from registry.transactions import Transactions, upsert
from registry.types import Replica, Slot

GONE_KEPT_S: Final = 86400.0
"""How long a replica that is gone stays in the table."""
PASSING: Final = ("heartbeat_at", "load", "memory_bytes")
"""Reported fields whose change nobody needs to act on."""
MARK: Final = "mark"
"""The column with a random number of each report that is more than a heartbeat."""
_DECIDING: Final = frozenset({"base", "adapters_of", "state", "capacity", "max_rank"})
"""Columns that placement depends on."""
_MOST_AT_ONCE: Final = 5000
"""Rows by id in one statement."""


def replica_of(row: Mapping[str, Any] | sa.RowMapping) -> Replica:
    """Return a row of `replicas` as a value."""
    slots = tuple(Slot(**(slot | {"state": SlotState(slot["state"])})) for slot in row["slots"])
    kept = {"state": ReplicaState(row["state"]), "slots": slots, "paths": tuple(row["paths"])}
    return Replica(**({name: value for name, value in row.items() if name != MARK} | kept))


class ReplicaReader:
    """Reads the replicas that are not gone, and of their rows only those that changed since the last reading.

    A large fleet's rows are many megabytes, mostly slots, of which a change concerns one replica.
    """

    def __init__(self) -> None:
        self._known: dict[str | None, dict[tuple[str, int], Replica]] = {}
        """The rows that were read last by base model; by id and mark."""

    def read(self, tx: sa.Connection, base: str | None = None) -> list[Replica]:
        """Return the replicas by id, of one base model where *base* names it.

        Their `PASSING` fields are not current, see `with_passing_fields`.
        """
        columns = replicas.c
        marks = sa.select(columns.id, columns.mark).where(_present(base)).order_by(columns.id)
        keys = [(row.id, row.mark) for row in tx.execute(marks)]
        known = self._known.get(base, {})
        missing = [replica_id for replica_id, mark in keys if (replica_id, mark) not in known]
        fetched = {(row["id"], row["mark"]): _lasting_of(row) for row in _rows(tx, missing)}
        found = {key: known.get(key) or fetched[key] for key in keys}
        # Replaced as a whole: a thread that reads at the same time keeps the dictionary with which it began.
        self._known[base] = found
        return list(found.values())


def _present(base: str | None) -> sa.ColumnElement[bool]:
    is_there = replicas.c.state != ReplicaState.GONE
    return is_there if base is None else sa.and_(is_there, replicas.c.base == base)


def _rows(tx: sa.Connection, ids: Sequence[str]) -> Iterator[sa.RowMapping]:
    for start in range(0, len(ids), _MOST_AT_ONCE):
        some = replicas.c.id.in_(ids[start : start + _MOST_AT_ONCE])
        yield from tx.execute(sa.select(replicas).where(some)).mappings()


def _lasting_of(row: sa.RowMapping) -> Replica:
    return replica_of({**row, "heartbeat_at": 0.0, "load": 0, "memory_bytes": None})


def with_passing_fields(tx: sa.Connection, known: tuple[Replica, ...], base: str | None = None) -> tuple[Replica, ...]:
    """Return the *known* replicas, all or those of *base*, with the `PASSING` fields that the database has now."""
    columns = [replicas.c[name] for name in ("id", *PASSING)]
    present = sa.select(*columns).where(_present(base))
    passing = {row[0]: dict(zip(PASSING, row[1:], strict=True)) for row in tx.execute(present)}
    return tuple(replace(each, **passing.get(each.id, {})) for each in known)


def _change_of(tx: sa.Connection, row: Mapping[str, Any]) -> set[str] | None:
    """Return the columns in which *row* differs from the stored one, but for `PASSING`; None if none is stored."""
    columns = [column for column in replicas.columns if column.name not in (*PASSING, MARK)]
    stored = tx.execute(sa.select(*columns).where(replicas.c.id == row["id"])).mappings().one_or_none()
    return None if stored is None else {name for name in stored if stored[name] != row[name]}


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
            change = _change_of(tx, row)
            if change is not None and not change:
                beat = sa.update(replicas).where(replicas.c.id == replica.id)
                beat = beat.values({name: row[name] for name in PASSING})
                tx.execute(beat, execution_options={UNCOUNTED: True})
            else:
                upsert(tx, replicas, ("id",), row | {MARK: secrets.randbits(63)})
                if change is None or change & _DECIDING:
                    note_change(tx, REPLICA_PLACES)

    def get(self, replica_id: str) -> Replica:
        """Return the replica with this id. Raises `NotFound`."""
        query = sa.select(replicas).where(replicas.c.id == replica_id)
        with self._tx.read() as tx:
            row = tx.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFound(f"there is no replica {replica_id!r}")
        return replica_of(row)

    def list(self) -> builtins.list[Replica]:
        """Return every replica by id, including those that went within the last day."""
        with self._tx.read() as tx:
            rows = tx.execute(sa.select(replicas).order_by(replicas.c.id)).mappings()
            return [replica_of(row) for row in rows]

    def mark_gone(self, replica_id: str) -> None:
        """Mark the replica as gone. Raises `NotFound`."""
        with self._tx.write() as tx:
            update = sa.update(replicas).where(replicas.c.id == replica_id)
            if tx.execute(update.values(state=ReplicaState.GONE, slots=[])).rowcount != 1:
                raise NotFound(f"there is no replica {replica_id!r}")
            note_change(tx, REPLICA_PLACES)

    def expire(self, older_than_s: float) -> builtins.list[str]:
        """Mark replicas as gone that sent no heartbeat for *older_than_s*, and return their ids.

        The time is measured here, from one call to a later one, so that no clock that jumps removes a replica.
        """
        columns = replicas.c
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
            update = sa.update(replicas).where(silent)
            update = update.values(state=ReplicaState.GONE, slots=[], message=message)
            ids = tx.execute(update.returning(replicas.c.id)).scalars().all()
            note_change(tx, REPLICA_PLACES)
            tx.execute(sa.delete(replicas).where(old))
            return sorted(ids)
