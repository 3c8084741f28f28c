"""The schema of the database: what it is migrated to, and whether a database has it."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from registry import tables
from registry.errors import SchemaForeign, SchemaTooNew, SchemaTooOld
from registry.transactions import Transactions, open_engine, shown_url

MIGRATIONS: Final = Path(__file__).parent / "migrations"
_APPLIED: Final = sa.table("alembic_version", sa.column("version_num"))
"""Alembic's record of the schema revision of a database."""
MIGRATION_LOCK: Final = 7613501
"""Key of the PostgreSQL advisory lock under which the schema changes."""


def migrate(url: str) -> None:
    """Bring the database at *url* to the schema of this Lorry.

    `SchemaTooNew` if a newer Lorry made it, `SchemaForeign` if it belongs to another program.
    """
    # Of all processes only the one that starts the others migrates: the rest save Alembic's memory.
    from alembic import command
    from alembic.config import Config

    engine = open_engine(url)
    transactions = Transactions(engine, time.time)
    config = Config()
    # Alembic interpolates the values of its options, so a % of the path is doubled.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    try:
        with transactions.write() as tx:
            # Hosts that start together migrate one after the other; on SQLite the write transaction sees to that.
            if tx.dialect.name == "postgresql":
                tx.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            _check_known(tx, shown_url(engine))
            config.attributes["connection"] = tx
            command.upgrade(config, "head")
    finally:
        transactions.close()


@cache
def _schemas() -> tuple[str, ...]:
    """Return the schema revisions that this Lorry knows, the newest first: the names of their files begin with them."""
    return tuple(sorted((file.name.partition("_")[0] for file in MIGRATIONS.glob("versions/[0-9]*.py")), reverse=True))


def _check_known(tx: sa.Connection, url: str) -> str | None:
    """Return the schema revision at *url*, None for an empty database. `SchemaTooNew` or `SchemaForeign`."""
    present = set(sa.inspect(tx).get_table_names())
    found: str | None = tx.execute(sa.select(_APPLIED.c.version_num)).scalar() if _APPLIED.name in present else None
    schemas = _schemas()
    if found in schemas:
        return found
    # Alembic keeps the schemas of other programs in a table of the same name.
    if found is not None and tables.adapters.name in present and tables.revisions.name in present:
        raise SchemaTooNew(
            f"the registry {url} has schema {found}, which a newer Lorry made; this one knows schemas up to "
            f"{schemas[0]}. Upgrade Lorry, or give [registry] url another database"
        )
    if present:
        raise SchemaForeign(
            f"the database {url} belongs to another program: it has the table {min(present)!r} and no schema of Lorry. "
            "Give [registry] url a database of its own"
        )
    return None


def check_current(tx: sa.Connection, url: str) -> None:
    """Raise `SchemaTooOld`, `SchemaTooNew` or `SchemaForeign` unless the database at *url* has the newest schema."""
    found, head = _check_known(tx, url), _schemas()[0]
    if found != head:
        raise SchemaTooOld(
            f"the registry {url} has {'no schema' if found is None else f'schema {found}'}, "
            f"this Lorry needs {head}: migrate it first"
        )
