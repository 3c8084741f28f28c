"""Deliveries to a webhook: the rows that record what happened are the outbox, beside each a count of attempts."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import sqlalchemy as sa

from registry.columns import at, metadata
from registry.transactions import Transactions, insert_or_ignore

Subject = TypeVar("Subject")


def _deliveries(name: str, of: str) -> sa.Table:
    """Return the table of attempts to deliver rows of the table *of*; a row without one was not tried yet."""
    return sa.Table(
        name,
        metadata,
        sa.Column(
            "event_seq",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            sa.ForeignKey(f"{of}.seq"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("attempts", sa.Integer, nullable=False),
        at("next_at"),
        at("delivered_at", nullable=True),
        sa.Column("error", sa.Text, nullable=False),
    )


rollout_deliveries: Final = _deliveries("rollout_deliveries", "rollout_events")
job_deliveries: Final = _deliveries("job_deliveries", "jobs")
batch_deliveries: Final = _deliveries("batch_deliveries", "batches")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbox(Generic[Subject]):
    """A table whose rows are to be delivered."""

    events: sa.Table
    at: sa.ColumnElement[float]
    """When a row became one to deliver."""
    tried: sa.Table
    read: Callable[[sa.Connection, Mapping[str, Any]], Subject]
    """Return what a notice is written from."""
    which: sa.ColumnElement[bool] = field(default_factory=sa.true)
    """The rows that are to be delivered at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery(Generic[Subject]):
    """Something that the receiver has not acknowledged yet."""

    seq: int
    subject: Subject
    attempts: int
    """How many attempts were made before."""


class DeliveryStore(Generic[Subject]):
    """Stores which rows of an outbox were acknowledged, and when the others are tried again."""

    def __init__(self, transactions: Transactions, outbox: Outbox[Subject]) -> None:
        self._tx = transactions
        self._outbox = outbox

    def due(self, *, since: float, max_attempts: int, limit: int = 20) -> builtins.list[Delivery[Subject]]:
        """Return what happened from *since* on and is to be sent now, oldest first."""
        outbox, tried = self._outbox, self._outbox.tried
        again = sa.and_(
            tried.c.delivered_at.is_(None), tried.c.attempts < max_attempts, tried.c.next_at <= self._tx.now()
        )
        query = (
            sa.select(outbox.events, sa.func.coalesce(tried.c.attempts, 0).label("attempts_made"))
            .outerjoin(tried, tried.c.event_seq == outbox.events.c.seq)
            .where(outbox.at >= since, outbox.which, sa.or_(tried.c.event_seq.is_(None), again))
            .order_by(outbox.at, outbox.events.c.seq)
            .limit(limit)
        )
        with self._tx.read() as tx:
            rows = [dict(row) for row in tx.execute(query).mappings()]
            return [
                Delivery(seq=row["seq"], attempts=row.pop("attempts_made"), subject=outbox.read(tx, row))
                for row in rows
            ]

    def claim(self, delivery: Delivery[Subject], next_at: float) -> bool:
        """Count one more attempt, and return False if another process did so first.

        The next attempt is at *next_at*, if this one fails or this process dies.
        """
        table, seq = self._outbox.tried, delivery.seq
        fresh = {"event_seq": seq, "attempts": 1, "next_at": next_at, "error": ""}
        with self._tx.write() as tx:
            # Two processes may have read the event as due; the new row, or the count of attempts, lets one send.
            if delivery.attempts == 0:
                return insert_or_ignore(tx, table, fresh)
            unmoved = sa.and_(table.c.event_seq == seq, table.c.attempts == delivery.attempts)
            values = {"attempts": delivery.attempts + 1, "next_at": next_at}
            return tx.execute(sa.update(table).where(unmoved).values(**values)).rowcount == 1

    def record_outcome(self, delivery: Delivery[Subject], error: str) -> None:
        """Store that the attempt failed with *error*, or was acknowledged if *error* is empty."""
        table = self._outbox.tried
        values = {"error": error, "delivered_at": None if error else self._tx.now()}
        with self._tx.write() as tx:
            tx.execute(sa.update(table).where(table.c.event_seq == delivery.seq).values(**values))
