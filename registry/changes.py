"""Change numbers of the tables that gateways follow, so that readers skip tables without a change.

Every transaction that wrote to such a table raises the table's number before it commits. An update without consequence
for gateways, such as a heartbeat, is executed with the option `UNCOUNTED`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from registry import tables

T = TypeVar("T")

KEYS: Final = "keys"
COUNTED: Final = frozenset(
    {
        "adapter_owners",
        "adapters",
        "bases",
        "checkpoint_permissions",
        "forced_sides",
        KEYS,
        "replicas",
        "revision_uses",
        "revisions",
        "rollouts",
        "served_checkpoints",
    }
)
"""The tables whose changes are counted."""
UNCOUNTED: Final = "lorry_uncounted"
"""Execution option of a statement whose change needs no new reading by others."""
_WRITTEN: Final = "lorry_written"
_NUMBERS: Final = "SELECT name, number FROM table_changes"
_INSERT: Final[Mapping[str, Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def note_writes(engine: sa.Engine) -> None:
    """Have every connection of *engine* remember the tables that its transaction wrote to."""
    sa.event.listen(engine, "after_execute", _note)


def raise_numbers(tx: sa.Connection) -> None:
    """Raise the numbers of the tables that this transaction wrote to; call it last, as other writers wait for it."""
    written: set[str] = tx.info.pop(_WRITTEN, set())
    table = tables.table_changes
    # Sorted, so that two transactions lock the numbers in one order and cannot deadlock.
    for name in sorted(written & COUNTED):
        insert = _INSERT[tx.dialect.name](table).values(name=name, number=1)
        tx.execute(insert.on_conflict_do_update(index_elements=["name"], set_={"number": table.c.number + 1}))
    # The statements above were noted as well.
    tx.info.pop(_WRITTEN, None)


def forget_writes(tx: sa.Connection) -> None:
    """Drop what an earlier transaction of this connection noted and then rolled back."""
    # `info` belongs to the pooled connection and outlives its transactions.
    tx.info.pop(_WRITTEN, None)


def changes_in(tx: sa.Connection) -> Mapping[str, int]:
    """Return the number of every table that ever changed."""
    # every gateway asks several times a second, and plain SQL takes two thirds of the time of a built statement
    return dict(tx.exec_driver_sql(_NUMBERS).fetchall())


class PromptChanges:
    """Reads the change numbers of an SQLite file without waiting, on a connection of its own.

    A thread and a transaction around so short a statement would cost many times as much as the statement.
    """

    def __init__(self, path: str | None) -> None:
        """Without a *path* there is nothing to read: the database is on a server, whose reply takes its time."""
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def read(self) -> Mapping[str, int] | None:
        """Return what `changes_in` returns, None where that would need a wait. For one thread at a time."""
        if self._path is None:
            return None
        try:
            if self._connection is None:
                # The file exists, and is not made anew where it was removed; a lock is not waited for.
                self._connection = sqlite3.connect(
                    f"file:{quote(self._path)}?mode=rw", uri=True, timeout=0, check_same_thread=False
                )
            return dict(self._connection.execute(_NUMBERS).fetchall())
        except sqlite3.Error:  # whoever waits for the numbers instead gets the error
            self.close()
            return None

    def close(self) -> None:
        """Close the connection; the next reading opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class KeptParts:
    """Parts of snapshots by table; each is read again only when its table has changed. Safe to use from many threads.

    A part and its number are kept together and numbers only rise. Two threads may therefore make each other read a part
    once more, but never keep an old one.
    """

    def __init__(self) -> None:
        self._parts: dict[str, tuple[int, tuple[Any, ...]]] = {}

    def in_transaction(self, tx: sa.Connection) -> PartsOfOneMoment:
        """Return the parts as *tx* sees them."""
        return PartsOfOneMoment(tx, self._parts)


class PartsOfOneMoment:
    """Kept parts, checked against the numbers that one transaction sees."""

    def __init__(self, tx: sa.Connection, parts: dict[str, tuple[int, tuple[Any, ...]]]) -> None:
        self._tx = tx
        self._parts = parts
        self._numbers = changes_in(tx)

    def get(self, table: str, read: Callable[[sa.Connection], Iterable[T]]) -> tuple[T, ...]:
        """Return the result of *read* for *table*, kept from before if the table has not changed."""
        number = self._numbers.get(table, 0)
        kept = self._parts.get(table)
        if kept is not None and kept[0] == number:
            return kept[1]
        # Part and number come from one snapshot of the database, so the number is exactly that of the part.
        found = tuple(read(self._tx))
        self._parts[table] = (number, found)
        return found


def _note(conn: sa.Connection, clause: Any, _many: Any, _params: Any, options: Mapping[str, Any], _result: Any) -> None:
    if clause.is_dml and not options.get(UNCOUNTED):
        conn.info.setdefault(_WRITTEN, set()).add(clause.table.name)
