"""Columns and naming rules that all tables share. Times are unix seconds; `seq` gives the order of entry."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from registry.types import LOCAL_TENANT

metadata: Final = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def sequence(name: str = "seq") -> sa.Column[int]:
    """Return a primary key that grows with every row."""
    return sa.Column(name, sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True)


def tenant(*, key: bool = False) -> sa.Column[Any]:
    """Return the column for the tenant whose keys see the row."""
    return sa.Column("tenant", sa.Text, primary_key=key, nullable=False, server_default=LOCAL_TENANT)


def at(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    """Return a column for a time in unix seconds."""
    return sa.Column(name, sa.Double, nullable=nullable)


def cell(*, key: bool) -> list[sa.Column[Any]]:
    """Return the columns of `registry.rollouts.tally.Cell`; all but the replica may be NULL outside of a *key*."""
    return [
        sa.Column("rollout_id", sa.Text, primary_key=key, nullable=not key),
        sa.Column("step", sa.Integer, primary_key=key, autoincrement=False, nullable=not key),
        sa.Column("side", sa.Text, primary_key=key, nullable=not key),
        sa.Column("replica", sa.Text, primary_key=key, nullable=False),
    ]
