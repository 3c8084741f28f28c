"""Change numbers of the tables that gateways follow, so that readers skip tables without a change.

Every transaction that wrote to such a table raises the table's number before it commits. An update without consequence
for gateways, such as a heartbeat, is executed with the option `UNCOUNTED`.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from registry import tables

T = TypeVar("T")

KEYS: Final = "keys"
REPLICA_PLACES: Final = "replica_places"
"""Counts the changes of `replicas` that placement depends on: which ones there are, and how much each can hold."""
COUNTED: Final = frozenset(
    {
        "adapter_owners",
        "adapters",
        "bases",
        "checkpoint_permissions",
        "forced_sides",
        KEYS,
        REPLICA_PLACES,
        "replicas",
        "revision_uses",
        "revisions",
        "rollouts",
        "served_checkpoints",
        "sleeping_pools",
    }
)
"""The tables whose changes are counted, and `REPLICA_PLACES`."""
UNCOUNTED: Final = "lorry_uncounted"
"""Execution option of a statement whose change needs no new reading by others."""
_WRITTEN: Final = "lorry_written"
_NUMBERS: Final = "SELECT name, number FROM table_changes"
_LISTEN: Final = "LISTEN lorry_changes"
_NOTIFY: Final = "NOTIFY lorry_changes"
_NOTIFIED_FOR_S: Final = 2.0
"""How long numbers are kept without a notification."""
_ARRIVES_WITHIN_S: Final = 1.0
_INSERT: Final[Mapping[str, Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def note_writes(engine: sa.Engine) -> None:
    """Have every connection of *engine* remember the tables that its transaction wrote to."""
    sa.event.listen(engine, "after_execute", _note)


def note_change(tx: sa.Connection, name: str) -> None:
    """Have the transaction raise the number *name* too."""
    tx.info.setdefault(_WRITTEN, set()).add(name)


def raise_numbers(tx: sa.Connection) -> None:
    """Raise the numbers of the tables that this transaction wrote to; call it last, as other writers wait for it."""
    written: set[str] = tx.info.pop(_WRITTEN, set())
    table = tables.table_changes
    # Sorted, so that two transactions lock the numbers in one order and cannot deadlock.
    for name in sorted(written & COUNTED):
        insert = _INSERT[tx.dialect.name](table).values(name=name, number=1)
        tx.execute(insert.on_conflict_do_update(index_elements=["name"], set_={"number": table.c.number + 1}))
    if written & COUNTED and tx.dialect.name == "postgresql":
        tx.exec_driver_sql(_NOTIFY)  # sent with the commit
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


class PromptChanges(Protocol):
    """Gives the change numbers without waiting. For one thread at a time, except `begin` and `keep`."""

    def read(self) -> Mapping[str, int] | None:
        """Return what `changes_in` returns now, None where that would need a wait."""
        ...

    def begin(self) -> int:
        """Return what `keep` needs; called in a thread before the numbers are read from the database."""
        ...

    def keep(self, numbers: Mapping[str, int], begun: int) -> None:
        """Take over numbers that were read after `begin` returned *begun*."""
        ...

    def close(self) -> None:
        """Close the connection; the next reading opens another one."""
        ...


class FileChanges:
    """Reads the change numbers of an SQLite file on a connection of its own.

    A thread and a transaction around so short a statement would cost many times as much as the statement.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def read(self) -> Mapping[str, int] | None:
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

    def begin(self) -> int:
        return 0

    def keep(self, numbers: Mapping[str, int], begun: int) -> None:
        """Keep nothing: the file is read again as quickly."""

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class NotifiedChanges:
    """Keeps the change numbers of a PostgreSQL registry until a notification reports that they have changed.

    Every transaction that raises a number notifies. The numbers are read again every two seconds nevertheless: a
    process of an earlier version does not notify. Where notifications do not arrive, as behind a pooler that gives each
    transaction another connection, nothing is kept.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._opening = threading.Lock()
        self._connection: Any = None
        """A connection of psycopg that listens, once it was seen to get a notification."""
        self._is_wanted = self._is_deaf = False
        self._numbers: Mapping[str, int] | None = None
        self._kept_until = 0.0
        self._notified = 0
        """Counts notifications: numbers that were read before the last of them are not kept."""

    def read(self) -> Mapping[str, int] | None:
        self._is_wanted = True
        connection, numbers = self._connection, self._numbers
        # Notifications are left where they are while nothing is kept: they end what is kept next.
        if connection is None or numbers is None:
            return None
        if time.monotonic() >= self._kept_until:
            self._numbers = None
            return None
        try:
            connection.pgconn.consume_input()  # of what has arrived; nothing is waited for
            if connection.pgconn.notifies() is None:
                return numbers
            while connection.pgconn.notifies() is not None:
                pass
        except self._engine.dialect.loaded_dbapi.Error:
            self.close()
        self._numbers = None
        self._notified += 1
        return None

    def begin(self) -> int:
        with self._opening:
            # A process that never asks for what is kept needs no connection more.
            if self._connection is None and self._is_wanted and not self._is_deaf:
                with suppress(self._engine.dialect.loaded_dbapi.Error):  # the server went away: tried again
                    self._connection = self._listening()
                    self._is_deaf = self._connection is None
        return self._notified

    def keep(self, numbers: Mapping[str, int], begun: int) -> None:
        if begun == self._notified:
            self._kept_until = time.monotonic() + _NOTIFIED_FOR_S
            self._numbers = numbers

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _listening(self) -> Any:
        """Return a connection that gets notifications, None if a notification did not arrive on it."""
        pooled = self._engine.raw_connection()
        connection: Any = pooled.driver_connection
        pooled.detach()  # it goes back to no pool
        try:
            connection.autocommit = True
            connection.execute(_LISTEN)
            with self._engine.begin() as tx:
                tx.exec_driver_sql(_NOTIFY)
            if any(connection.notifies(timeout=_ARRIVES_WITHIN_S, stop_after=1)):
                heard, connection = connection, None
                return heard
        finally:
            if connection is not None:
                connection.close()
        return None


def prompt_changes(engine: sa.Engine) -> PromptChanges:
    """Return the way to the change numbers that suits the database."""
    path = engine.url.database if engine.dialect.name == "sqlite" else None
    return NotifiedChanges(engine) if path is None else FileChanges(path)


class KeptParts:
    """Parts of snapshots by table; each is read again only when its table has changed. Safe to use from many threads.

    A part and its number are kept together and numbers only rise. Two threads may therefore make each other read a part
    once more, but never keep an old one.
    """

    def __init__(self) -> None:
        self._parts: dict[tuple[str, str], tuple[int, tuple[Any, ...]]] = {}

    def in_transaction(self, tx: sa.Connection) -> PartsOfOneMoment:
        """Return the parts as *tx* sees them."""
        return PartsOfOneMoment(tx, self._parts)


class PartsOfOneMoment:
    """Kept parts, checked against the numbers that one transaction sees."""

    def __init__(self, tx: sa.Connection, parts: dict[tuple[str, str], tuple[int, tuple[Any, ...]]]) -> None:
        self._tx = tx
        self._parts = parts
        self._numbers = changes_in(tx)

    def get(self, table: str, read: Callable[[sa.Connection], Iterable[T]], of: str = "") -> tuple[T, ...]:
        """Return the result of *read* for *table*, kept from before if the table has not changed.

        *of* names the part of the table that *read* reads, where it does not read all.
        """
        number = self._numbers.get(table, 0)
        kept = self._parts.get((table, of))
        if kept is not None and kept[0] == number:
            return kept[1]
        # Part and number come from one snapshot of the database, so the number is exactly that of the part.
        found = tuple(read(self._tx))
        self._parts[table, of] = (number, found)
        return found


def _note(conn: sa.Connection, clause: Any, _many: Any, _params: Any, options: Mapping[str, Any], _result: Any) -> None:
    if clause.is_dml and not options.get(UNCOUNTED):
        conn.info.setdefault(_WRITTEN, set()).add(clause.table.name)
