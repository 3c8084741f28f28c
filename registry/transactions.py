"""Connections to SQLite or PostgreSQL, and the two kinds of transaction that every store uses."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection

from registry.changes import forget_writes, note_writes, raise_numbers
from registry.errors import Conflict, RegistryError, RegistryUnavailable, SettingsInvalid, StorageFull

LOCK_WAIT_S: Final = 10
"""How long a transaction waits for another one before `RegistryUnavailable`."""

FULL_ERRNOS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of the operating system for a full disk, quota or file size."""

POSTGRES_DISK_FULL: Final = "53100"

_WRITE: Final = "lorry_write"
_INSERT: Final[Mapping[str, Callable[[sa.Table], Any]]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def open_engine(url: str) -> sa.Engine:
    """Return an engine for *url*, not connected yet. `SettingsInvalid` unless it is SQLite or PostgreSQL."""
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as exc:
        raise SettingsInvalid(f"settings [registry] url: {exc}") from exc
    if parsed.drivername == "sqlite" and parsed.database:
        return _open_sqlite(parsed)
    if parsed.drivername in ("postgresql", "postgresql+psycopg"):
        return _open_postgres(parsed.set(drivername="postgresql+psycopg"))
    raise SettingsInvalid(
        f"settings [registry] url: {parsed.render_as_string(hide_password=True)} is neither "
        "sqlite:////absolute/path.db nor postgresql+psycopg://user@host/name"
    )


def _open_sqlite(url: sa.URL) -> sa.Engine:
    Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, pool_size=8, max_overflow=56, connect_args={"timeout": LOCK_WAIT_S})

    def on_connect(connection: DBAPIConnection, _record: object) -> None:
        connection.isolation_level = None  # `on_begin` sends BEGIN itself, to choose its kind
        # WAL lets readers go on beside the writer, FULL keeps commits through a power cut; SQLite checks foreign keys
        # only where a connection asks for that.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    def on_begin(connection: sa.Connection) -> None:
        # IMMEDIATE waits for the write lock at the start: a transaction that reads first and writes later fails without
        # a wait if another one wrote in between.
        is_write = connection.get_execution_options().get(_WRITE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")

    sa.event.listen(engine, "connect", on_connect)
    sa.event.listen(engine, "begin", on_begin)
    return engine


def _open_postgres(url: sa.URL) -> sa.Engine:
    # For a host that vanished TCP repeats its packets for minutes; the second limit, in ms, ends that earlier.
    connect_args = {"connect_timeout": LOCK_WAIT_S, "tcp_user_timeout": LOCK_WAIT_S * 1000}
    # The ping replaces connections from before a restart of the server, which would fail a transaction each.
    engine = sa.create_engine(url, pool_size=8, max_overflow=56, pool_pre_ping=True, connect_args=connect_args)

    def on_connect(connection: DBAPIConnection, _record: object) -> None:
        cursor = connection.cursor()
        # The bound of SQLite's `timeout`, so that a writer gives up after the same wait on both databases.
        cursor.execute(f"SET lock_timeout = '{LOCK_WAIT_S}s'")
        cursor.close()
        # PostgreSQL takes a SET back when its transaction is rolled back.
        connection.commit()

    sa.event.listen(engine, "connect", on_connect)
    return engine


def shown_url(engine: sa.Engine) -> str:
    """Return the address of the database without its password."""
    return engine.url.render_as_string(hide_password=True)


class Transactions:
    """Short blocking transactions for many threads; errors of the driver become errors of the registry."""

    def __init__(self, engine: sa.Engine, now: Callable[[], float]) -> None:
        note_writes(engine)
        self.now = now
        self._engine = engine
        self._writer = engine.execution_options(**{_WRITE: True})
        # By default each statement on PostgreSQL sees a moment of its own; a transaction on SQLite sees one moment.
        is_postgres = engine.dialect.name == "postgresql"
        self._reader = engine.execution_options(isolation_level="REPEATABLE READ") if is_postgres else engine

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Open a transaction whose reads all show the same moment."""
        with translated(self._engine), self._reader.begin() as tx:
            yield tx

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Open a transaction that commits as a whole. SQLite has one writer at a time; on PostgreSQL lock the rows."""
        with translated(self._engine), self._writer.begin() as tx:
            forget_writes(tx)
            yield tx
            raise_numbers(tx)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


@contextmanager
def translated(engine: sa.Engine) -> Iterator[None]:
    """Translate errors of the driver: the database is away or full, or a row with this key exists."""
    try:
        yield
    except sa.exc.IntegrityError as exc:
        raise Conflict(f"someone else was faster: {exc.orig}") from exc
    except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError) as exc:
        raise _translation(exc, shown_url(engine)) from exc
    except OSError as exc:
        if exc.errno in FULL_ERRNOS:
            raise StorageFull(f"no space left for the registry: {exc}; nothing was changed") from exc
        raise


def _translation(exc: sa.exc.SQLAlchemyError, url: str) -> RegistryError:
    cause: BaseException = getattr(exc, "orig", None) or exc
    full = getattr(cause, "sqlstate", None) == POSTGRES_DISK_FULL
    if isinstance(cause, sqlite3.Error):
        full = cause.sqlite_errorcode in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE)
    if full:
        return StorageFull(f"the disk of the registry {url} is full: {cause}; nothing was changed")
    return RegistryUnavailable(f"the registry {url} does not answer: {cause}")


def insert_or_ignore(tx: sa.Connection, table: sa.Table, values: Mapping[str, Any]) -> bool:
    """Insert a row unless one with its keys exists, and return whether it was inserted."""
    insert = _INSERT[tx.dialect.name](table).values(**values).on_conflict_do_nothing()
    # SQLAlchemy keeps the count of inserted rows only on request.
    return tx.execute(insert, execution_options={"preserve_rowcount": True}).rowcount == 1


def upsert(tx: sa.Connection, table: sa.Table, keys: tuple[str, ...], *rows: Mapping[str, Any]) -> None:
    """Insert each of *rows*, all with the same columns, or overwrite the row with the same *keys*."""
    if not rows:
        return
    insert = _INSERT[tx.dialect.name](table)
    rest = {name: insert.excluded[name] for name in rows[0] if name not in keys}
    tx.execute(insert.on_conflict_do_update(index_elements=list(keys), set_=rest), list(rows))
