"""The rows of one registry, written into another database of the same schema, which may be of the other kind."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from registry.columns import metadata
from registry.errors import Conflict
from registry.transactions import Transactions

CHUNK_ROWS: Final = 1000
PASSING: Final = frozenset({"replicas", "revision_uses", "trainer_workers"})
"""Tables about processes that run now; in another place they would be wrong."""


def copy_rows(source: Transactions, target: Transactions, *, leave_out: frozenset[str] = frozenset()) -> int:
    """Write the rows of *source*, as of one moment, into the empty *target* in one transaction; return their number.

    Raises `Conflict` if *target* has rows.
    """
    count = 0
    with source.read() as read, target.write() as write:
        check_empty(write)
        for table in metadata.sorted_tables:
            if table.name not in leave_out:
                count += _copy_table(table, read, write)
    return count


def check_empty(tx: sa.Connection) -> None:
    """Raise `Conflict`, which names a table, if the registry has rows."""
    for table in metadata.sorted_tables:
        if tx.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first() is not None:
            raise Conflict(f"the registry to write to is not empty: it has rows in {table.name!r}")


def _copy_table(table: sa.Table, read: sa.Connection, write: sa.Connection) -> int:
    count = 0
    found = read.execution_options(yield_per=CHUNK_ROWS).execute(sa.select(table)).mappings()
    for chunk in found.partitions():
        write.execute(sa.insert(table), [dict(row) for row in chunk])
        count += len(chunk)
    key = table.autoincrement_column
    # SQLite goes on behind the largest key by itself; a sequence of PostgreSQL knows only the keys that it gave out.
    if count and key is not None and write.dialect.name == "postgresql":
        sequence = sa.func.pg_get_serial_sequence(table.name, key.name)
        write.execute(sa.select(sa.func.setval(sequence, sa.select(sa.func.max(key)).scalar_subquery())))
    return count
