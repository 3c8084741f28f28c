"""How often each table that routes follow from has changed, so that nobody reads all rows to find nothing new.

Every transaction that wrote to such a table raises the table's number before it commits. A row that says something new
of no consequence, such as a heartbeat, is written with the option `UNCOUNTED`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from registry import tables

T = TypeVar("T")

COUNTED: Final = frozenset({"adapters", "bases", "forced_sides", "replicas", "revisions", "rollouts"})
"""The tables whose changes are counted."""
UNCOUNTED: Final = "lorry_uncounted"
"""Execution option of a statement that changes nothing that others should look at again."""
_WRITTEN: Final = "lorry_written"
_INSERT: Final[Mapping[str, Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def note_writes(engine: sa.Engine) -> None:
    """From now on every connection knows the tables that its transaction wrote to."""
    sa.event.listen(engine, "after_execute", _note)


def raise_numbers(tx: sa.Connection) -> None:
    """The tables that this transaction wrote to have changed once more; call it last, as it makes others wait."""
    written: set[str] = tx.info.pop(_WRITTEN, set())
    table = tables.table_changes
    for name in sorted(written & COUNTED):
        insert = _INSERT[tx.dialect.name](table).values(name=name, number=1)
        tx.execute(insert.on_conflict_do_update(index_elements=["name"], set_={"number": table.c.number + 1}))
    tx.info.pop(_WRITTEN, None)


def forget_writes(tx: sa.Connection) -> None:
    """A transaction begins on a connection, perhaps after one that was rolled back."""
    tx.info.pop(_WRITTEN, None)


def changes_in(tx: sa.Connection) -> Mapping[str, int]:
    """The number of every table that ever changed."""
    # every gateway asks several times a second, and this takes two thirds of what a built statement takes
    return dict(tx.exec_driver_sql("SELECT name, number FROM table_changes").fetchall())


class KeptParts:
    """Parts of snapshots by table; each is read again only when its table has changed. Safe to use from many threads.

    A part and its number are kept together, and numbers only rise, so the worst that two threads do to each other is
    that a part is read once more.
    """

    def __init__(self) -> None:
        self._parts: dict[str, tuple[int, tuple[Any, ...]]] = {}

    def in_transaction(self, tx: sa.Connection) -> PartsOfOneMoment:
        """The parts as *tx* sees them."""
        return PartsOfOneMoment(tx, self._parts)


class PartsOfOneMoment:
    """Kept parts, held against the numbers that one transaction sees."""

    def __init__(self, tx: sa.Connection, parts: dict[str, tuple[int, tuple[Any, ...]]]) -> None:
        self._tx = tx
        self._parts = parts
        self._numbers = changes_in(tx)

    def get(self, table: str, read: Callable[[sa.Connection], Iterable[T]]) -> tuple[T, ...]:
        """What *read* says of *table*, from before if the table has not changed."""
        number = self._numbers.get(table, 0)
        kept = self._parts.get(table)
        if kept is not None and kept[0] == number:
            return kept[1]
        found = tuple(read(self._tx))
        self._parts[table] = (number, found)
        return found


def _note(conn: sa.Connection, clause: Any, _many: Any, _params: Any, options: Mapping[str, Any], _result: Any) -> None:
    if clause.is_dml and not options.get(UNCOUNTED):
        conn.info.setdefault(_WRITTEN, set()).add(clause.table.name)
