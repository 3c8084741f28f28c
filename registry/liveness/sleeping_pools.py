"""Pools that may have no replica, which gateways and controller know by these rows while none reports itself."""

from __future__ import annotations

import builtins
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Final

import sqlalchemy as sa

from registry.columns import metadata
from registry.transactions import Transactions, upsert

sleeping_pools: Final = sa.Table(
    "sleeping_pools",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("base", sa.Text, sa.ForeignKey("bases.name"), nullable=False),
    sa.Column("adapters_of", sa.Text, nullable=False, server_default=""),
    sa.Column("engine", sa.Text, nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SleepingPool:
    """A pool that may have no replica, whether it has one at the moment or not."""

    name: str
    base: str
    adapters_of: str = ""
    """Base model whose adapters it serves in place of its own's; empty for its own."""
    engine: str
    """Kind of engine."""

    @property
    def adapter_base(self) -> str:
        """Name of the base model whose adapters the pool serves."""
        return self.adapters_of or self.base


def all_sleeping_pools(tx: sa.Connection) -> builtins.list[SleepingPool]:
    """Return every pool that may have no replica, by name."""
    rows = tx.execute(sa.select(sleeping_pools).order_by(sleeping_pools.c.name)).mappings()
    return [SleepingPool(**row) for row in rows]


class SleepingPoolStore:
    """Stores which pools may have no replica: a deployment's own pools, and no others once it has begun."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions

    def enter(self, pool: SleepingPool) -> None:
        """Enter the pool, or what it serves now; its base model is in the registry already."""
        with self._tx.write() as tx:
            if pool not in all_sleeping_pools(tx):  # each replica enters its pool: a write without news is spared
                upsert(tx, sleeping_pools, ("name",), asdict(pool))

    def keep_only(self, names: Collection[str]) -> None:
        """Remove every other pool, as the settings have them no more."""
        others = sleeping_pools.c.name.not_in(list(names))
        with self._tx.write() as tx:
            if tx.execute(sa.select(sleeping_pools.c.name).where(others).limit(1)).first() is not None:
                tx.execute(sa.delete(sleeping_pools).where(others))

    def list(self) -> builtins.list[SleepingPool]:
        """Return every pool that may have no replica, by name."""
        with self._tx.read() as tx:
            return all_sleeping_pools(tx)
