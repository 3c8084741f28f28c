"""Conversations that an operator keeps on one side of an adapter's rollouts."""

from __future__ import annotations

import builtins
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from registry import tables
from registry.adapters import find_adapter
from registry.audit import Act, write_audit
from registry.errors import NotFound
from registry.rollouts.tally import Side
from registry.transactions import Transactions, upsert


@dataclass(frozen=True, slots=True, kw_only=True)
class ForcedSide:
    """An order that requests with this sticky key go to `side` while a rollout of `adapter` is open."""

    adapter: str
    sticky_key: str
    """The caller's `x-session-id`, `user`, `safety_identifier` or `prompt_cache_key`; or `api-key:NAME`."""
    side: Side
    actor: str
    created_at: float


def all_forced_sides(tx: sa.Connection, adapter: str | None = None) -> list[ForcedSide]:
    """Return the forced sides of every adapter, or of one, ordered by adapter and key."""
    table = tables.forced_sides
    query = sa.select(table).order_by(table.c.adapter, table.c.sticky_key)
    if adapter is not None:
        query = query.where(table.c.adapter == adapter)
    return [ForcedSide(**(dict(row) | {"side": Side(row["side"])})) for row in tx.execute(query).mappings()]


class ForcedSideStore:
    """Stores at most one forced side for each key; it outlasts rollouts until it is deleted."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions

    def put(self, adapter: str, sticky_key: str, side: Side, actor: str) -> ForcedSide:
        """Force the key to *side*, in place of an earlier order. Raises `NotFound`."""
        with self._tx.write() as tx:
            find_adapter(tx, adapter)
            forced = ForcedSide(
                adapter=adapter, sticky_key=sticky_key, side=side, actor=actor, created_at=self._tx.now()
            )
            upsert(tx, tables.forced_sides, ("adapter", "sticky_key"), asdict(forced))
            act = Act(actor=actor, action="side.force", subject=adapter, detail={"key": sticky_key, "side": side})
            write_audit(tx, act, forced.created_at)
            return forced

    def list(self, adapter: str) -> builtins.list[ForcedSide]:
        """Return the forced sides of *adapter*. Raises `NotFound`."""
        with self._tx.read() as tx:
            find_adapter(tx, adapter)
            return all_forced_sides(tx, adapter)

    def delete(self, adapter: str, sticky_key: str, actor: str) -> None:
        """Let the key go to the side of its hash again. `NotFound` if the key is not forced."""
        table = tables.forced_sides
        with self._tx.write() as tx:
            held = sa.and_(table.c.adapter == adapter, table.c.sticky_key == sticky_key)
            if tx.execute(sa.delete(table).where(held)).rowcount != 1:
                raise NotFound(f"adapter {adapter!r} has no side forced for the key {sticky_key!r}")
            act = Act(actor=actor, action="side.release", subject=adapter, detail={"key": sticky_key})
            write_audit(tx, act, self._tx.now())
