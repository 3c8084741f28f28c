"""Pages of what was entered one after the other, the newest first."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from registry.errors import NotFound


def page(
    tx: sa.Connection, query: sa.Select[Any], table: sa.Table, after: str | None, limit: int
) -> list[sa.RowMapping]:
    """Return at most *limit* rows of *query*, newest first, older than the row with the id *after*, else `NotFound`."""
    if after is not None:
        # Ids are random; only `seq` has the order in which rows were entered. The entry is looked for in the list
        # itself, so that nobody learns whether an id exists elsewhere.
        seq = tx.execute(query.with_only_columns(table.c.seq).where(table.c.id == after)).scalar_one_or_none()
        if seq is None:
            raise NotFound(f"no entry has the id {after!r} to continue after")
        query = query.where(table.c.seq < seq)
    return list(tx.execute(query.order_by(table.c.seq.desc()).limit(limit)).mappings())
