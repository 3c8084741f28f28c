"""The lock between those who publish an artifact and those who remove one, which ends with its transaction."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

_KEY: Final = 7613502
"""Key of the PostgreSQL advisory lock. On SQLite a write transaction is alone already."""


def lock_shared(tx: sa.Connection) -> None:
    """Wait until nobody removes artifacts, and let nobody do so until *tx* ends."""
    if tx.dialect.name == "postgresql":
        tx.execute(sa.select(sa.func.pg_advisory_xact_lock_shared(_KEY)))


def lock_alone(tx: sa.Connection) -> None:
    """Wait until no transaction that publishes is open, and let none go on until *tx* ends."""
    if tx.dialect.name == "postgresql":
        tx.execute(sa.select(sa.func.pg_advisory_xact_lock(_KEY)))
