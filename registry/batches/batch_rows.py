"""Rows of batches as values, and their moves, inside of a transaction that the caller has begun."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from registry.audit import Act, write_audit
from registry.batches.batch import Batch, BatchFault, BatchHold, BatchUsage
from registry.batches.batch_state import ENDED, BatchState, check_move
from registry.batches.batch_tables import batches
from registry.errors import LeaseLost, NotFound, StaleState

_MOVED_AT: Final[Mapping[BatchState, str]] = {
    state: f"{state}_at" for state in BatchState if state is not BatchState.VALIDATING
}
"""State -> the column with the time at which the batch came into it."""


def find_batch(tx: sa.Connection, batch_id: str, tenant: str | None = None, *, lock: bool = False) -> Batch:
    """Return the batch, of *tenant* if one is given. Raises `NotFound`."""
    query = sa.select(batches).where(batches.c.id == batch_id)
    row = tx.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    # A batch of another tenant is answered like one that does not exist.
    if row is None or tenant not in (None, row["tenant"]):
        raise NotFound(f"there is no batch {batch_id!r}")
    return batch_of(row)


def held_batch(tx: sa.Connection, hold: BatchHold) -> Batch:
    """Return the batch, locked; `LeaseLost` unless *hold* is its latest and it has not ended."""
    batch = find_batch(tx, hold.batch_id, lock=True)
    if batch.attempt != hold.attempt or batch.holder != hold.holder or batch.state.is_terminal:
        raise LeaseLost(f"batch {batch.id} is held by {batch.holder or 'nobody'} now, in its attempt {batch.attempt}")
    return batch


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchMove:
    """A move of a batch into a state."""

    to: BatchState
    actor: str
    values: Mapping[str, Any] = field(default_factory=dict)
    """Columns that change with it."""


def move_batch(tx: sa.Connection, batch: Batch, move: BatchMove, at: float) -> Batch:
    """Move the batch from the state that the caller saw, and record it; `StaleState` if another was quicker."""
    to = move.to
    check_move(batch.state, to)
    is_same = sa.and_(batches.c.id == batch.id, batches.c.state == batch.state, batches.c.attempt == batch.attempt)
    fields: dict[str, Any] = {"state": to, _MOVED_AT[to]: at, "note": "", **move.values}
    if to in ENDED:
        fields["holder"] = None
    if tx.execute(sa.update(batches).where(is_same).values(fields)).rowcount != 1:
        raise StaleState(f"batch {batch.id} is no longer {batch.state}")
    moved = find_batch(tx, batch.id)
    detail = {"completed": moved.completed, "failed": moved.failed, "total": moved.total}
    write_audit(tx, Act(actor=move.actor, action=f"batch.{to}", subject=batch.id, detail=detail), at)
    return moved


def batch_of(row: sa.RowMapping) -> Batch:
    """Return a row of `batches` as a value."""
    fields: dict[str, Any] = {name: value for name, value in row.items() if name != "seq"}
    fields |= {
        "state": BatchState(row["state"]),
        "outcome": None if row["outcome"] is None else BatchState(row["outcome"]),
        "errors": tuple(BatchFault(**fault) for fault in row["errors"]),
        "usage": BatchUsage(**row["usage"]),
    }
    return Batch(**fields)


def usage_row(usage: BatchUsage) -> dict[str, int]:
    """Return the usage as its column has it."""
    return asdict(usage)
