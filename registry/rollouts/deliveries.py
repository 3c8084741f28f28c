"""Deliveries of rollout events to a webhook; the events are the outbox, as each is written with its move."""

from __future__ import annotations

import builtins
from dataclasses import dataclass

import sqlalchemy as sa

from registry import tables
from registry.rollouts.rollout import Rollout, RolloutEvent
from registry.rollouts.rollout_moves import event_of, find_rollout
from registry.transactions import Transactions, insert_or_ignore


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An event that the receiver has not acknowledged yet."""

    event: RolloutEvent
    rollout: Rollout
    attempts: int
    """How many attempts were made before."""


class DeliveryStore:
    """Stores which events were acknowledged, and when the others are tried again."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions

    def due(self, *, since: float, max_attempts: int, limit: int = 20) -> builtins.list[Delivery]:
        """Return the events from *since* on that are to be sent now, oldest first."""
        events, tried = tables.rollout_events, tables.rollout_deliveries
        again = sa.and_(
            tried.c.delivered_at.is_(None), tried.c.attempts < max_attempts, tried.c.next_at <= self._tx.now()
        )
        query = (
            sa.select(events, sa.func.coalesce(tried.c.attempts, 0).label("attempts"))
            .outerjoin(tried, tried.c.event_seq == events.c.seq)
            .where(events.c.at >= since, sa.or_(tried.c.event_seq.is_(None), again))
            .order_by(events.c.seq)
            .limit(limit)
        )
        with self._tx.read() as tx:
            rows = [dict(row) for row in tx.execute(query).mappings()]
            return [
                Delivery(attempts=row.pop("attempts"), event=event_of(row), rollout=find_rollout(tx, row["rollout_id"]))
                for row in rows
            ]

    def claim(self, delivery: Delivery, next_at: float) -> bool:
        """Count one more attempt, and return False if another process did so first.

        The next attempt is at *next_at*, if this one fails or this process dies.
        """
        table, seq = tables.rollout_deliveries, delivery.event.seq
        fresh = {"event_seq": seq, "attempts": 1, "next_at": next_at, "error": ""}
        with self._tx.write() as tx:
            # Two processes may have read the event as due; the new row, or the count of attempts, lets one send.
            if delivery.attempts == 0:
                return insert_or_ignore(tx, table, fresh)
            unmoved = sa.and_(table.c.event_seq == seq, table.c.attempts == delivery.attempts)
            values = {"attempts": delivery.attempts + 1, "next_at": next_at}
            return tx.execute(sa.update(table).where(unmoved).values(**values)).rowcount == 1

    def record_outcome(self, delivery: Delivery, error: str) -> None:
        """Store that the attempt failed with *error*, or was acknowledged if *error* is empty."""
        table = tables.rollout_deliveries
        values = {"error": error, "delivered_at": None if error else self._tx.now()}
        with self._tx.write() as tx:
            tx.execute(sa.update(table).where(table.c.event_seq == delivery.event.seq).values(**values))
