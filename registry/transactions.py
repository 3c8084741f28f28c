"""Connections to SQLite or PostgreSQL, and the two kinds of transaction that every store uses."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection

from registry.changes import UNCOUNTED, changes_in, forget_writes, note_writes, prompt_changes, raise_numbers
from registry.disk import FULL_ERRNOS
from registry.errors import (
    Conflict,
    NotStorable,
    OutcomeUnknown,
    RegistryError,
    RegistryUnavailable,
    SettingsInvalid,
    StorageFull,
    TransactionLost,
)

LOCK_WAIT_S: Final = 10
"""How long a transaction waits for another one before `RegistryUnavailable`."""

_SILENT_S: Final = LOCK_WAIT_S - 2
_SERVER_NOTICES: Final = (
    f"SET tcp_keepalives_idle = {_SILENT_S // 2}; SET tcp_keepalives_interval = 1; "
    f"SET tcp_keepalives_count = {_SILENT_S // 2}; SET tcp_user_timeout = {1000 * _SILENT_S}"
)
"""How soon the server looks whether a silent client's host is there: by default after two hours, for which a host that
lost power keeps its locks. This is less than other transactions wait for them."""

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_DISK_FULL: Final = "53100"
_READ_ONLY: Final = "25006"
_ROLLED_BACK: Final = frozenset({"40001", "40P01"})
"""Serialization failure and deadlock: PostgreSQL gave the transaction up for another one."""

_SQLITE_FULL: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE})
_DAMAGED: Final = (
    "is damaged or not an SQLite database: put back a copy of the file, or give [registry] url another one"
)
_SQLITE_ADVICE: Final[Mapping[int, str]] = {
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: [registry] url must name a file in a folder that Lorry may write to",
}
_SQLITE_PRIMARY: Final = 0xFF
"""Bits of the primary code in an extended result code of SQLite."""


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
    folder = Path(str(url.database)).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise SettingsInvalid(f"settings [registry] url: the folder {folder} cannot be made: {exc.strerror}") from exc
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
    # For a host that vanished TCP repeats its packets for minutes; the second limit, in ms, ends that earlier. Where a
    # reply is waited for, nothing is sent that could be repeated: there the keep-alives end the wait.
    connect_args = {
        "connect_timeout": LOCK_WAIT_S,
        "tcp_user_timeout": LOCK_WAIT_S * 1000,
        "keepalives_idle": LOCK_WAIT_S // 2,
        "keepalives_interval": 1,
        "keepalives_count": LOCK_WAIT_S // 2,
    }
    # The ping replaces connections from before a restart of the server, which would fail a transaction each.
    try:
        engine = sa.create_engine(url, pool_size=8, max_overflow=56, pool_pre_ping=True, connect_args=connect_args)
    except ModuleNotFoundError as exc:
        raise SettingsInvalid(
            f"settings [registry] url: PostgreSQL needs the package {exc.name}: pip install 'lorry[postgres]'"
        ) from exc

    def on_connect(connection: DBAPIConnection, _record: object) -> None:
        cursor = connection.cursor()
        # The bound of SQLite's `timeout`, so that a writer gives up after the same wait on both databases.
        cursor.execute(f"SET lock_timeout = '{LOCK_WAIT_S}s'; {_SERVER_NOTICES}")
        cursor.close()
        # PostgreSQL takes a SET back when its transaction is rolled back.
        connection.commit()

    sa.event.listen(engine, "connect", on_connect)
    leave_read_only_servers(engine)
    return engine


class Transactions:
    """Short blocking transactions for many threads; errors of the driver become errors of the registry."""

    def __init__(
        self, engine: sa.Engine, now: Callable[[], float], steady: Callable[[], float] = time.monotonic
    ) -> None:
        """*now* is the time that rows get; *steady* measures how long other processes are silent, and never jumps."""
        note_writes(engine)
        self.now = now
        self.steady = steady
        self._engine = engine
        self.prompt_changes = prompt_changes(engine)
        self._prompt = threading.Lock()
        """Held for microseconds: nothing is waited for below it."""
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
        with translated(self._engine) as progress, self._writer.begin() as tx:
            forget_writes(tx)
            yield tx
            raise_numbers(tx)
            progress.commits = True

    def changes(self) -> Mapping[str, int]:
        """Return the change number of each table, and keep them for `prompt_changes`."""
        with translated(self._engine):
            begun = self.prompt_changes.begin()
        with self.read() as tx:
            numbers = changes_in(tx)
        self.prompt_changes.keep(numbers, begun)
        return numbers

    def changes_at_once(self) -> Mapping[str, int] | None:
        """Return the same from memory, or from a file at once; None where that would need a wait."""
        with self._prompt:
            return self.prompt_changes.read()

    def close(self) -> None:
        """Close every connection."""
        self.prompt_changes.close()
        self._engine.dispose()


@dataclass(slots=True)
class Progress:
    """How far a transaction has come."""

    commits: bool = False
    """The next thing that it sends is COMMIT, whose outcome is unknown if no reply comes."""


@contextmanager
def translated(engine: sa.Engine) -> Iterator[Progress]:
    """Translate what the driver raises in the block; the caller notes the progress of its transaction."""
    progress = Progress()
    try:
        yield progress
    except sa.exc.IntegrityError as exc:
        raise Conflict("another change was made at the same time; try again") from exc
    # psycopg and sqlite3 raise the last two themselves, for a lone surrogate and for an integer above 2^63.
    except (sa.exc.DataError, UnicodeEncodeError, OverflowError) as exc:
        raise NotStorable(f"the database cannot store a value: {_one_line(exc)}; nothing was changed") from exc
    except (sa.exc.DBAPIError, sa.exc.TimeoutError, sa.exc.PendingRollbackError, sa.exc.ResourceClosedError) as exc:
        raise translation(exc, shown_url(engine), commits=progress.commits) from exc
    except OSError as exc:
        if exc.errno in FULL_ERRNOS:
            raise StorageFull(f"no space left for the registry: {exc}; nothing was changed") from exc
        raise


def translation(exc: sa.exc.SQLAlchemyError, url: str, *, commits: bool) -> RegistryError:
    """Return the registry's error for *exc*; *commits* is whether COMMIT was being sent."""
    cause = _cause_of(exc)
    state = getattr(cause, "sqlstate", None)
    sqlite = getattr(cause, "sqlite_errorcode", 0) & _SQLITE_PRIMARY
    if state == _DISK_FULL or getattr(cause, "sqlite_errorcode", 0) in _SQLITE_FULL:
        return StorageFull(f"the disk of the registry {url} is full: {_one_line(exc)}; nothing was changed")
    if state == _READ_ONLY or sqlite == sqlite3.SQLITE_READONLY:
        return RegistryUnavailable(
            f"the registry {url} is read-only at the moment, so nothing was changed: {_one_line(exc)}"
        )
    if advice := _SQLITE_ADVICE.get(sqlite):
        return RegistryUnavailable(f"the registry {url} {advice} ({_one_line(exc)})")
    if state in _ROLLED_BACK:
        return TransactionLost(f"the registry {url} rolled the transaction back: {_one_line(exc)}")
    if isinstance(exc, sa.exc.DBAPIError) and exc.connection_invalidated:
        return _broken(f"the connection to the registry {url} broke: {_one_line(exc)}", commits=commits)
    return RegistryUnavailable(f"the registry {url} does not answer: {_one_line(exc)}")


def _broken(lost: str, *, commits: bool) -> RegistryError:
    # A server may have committed before the connection broke, and its reply would have told.
    if commits:
        return OutcomeUnknown(f"{lost}; the change may have been stored: look before you repeat it")
    return TransactionLost(f"{lost}; nothing was changed")


def leave_read_only_servers(engine: sa.Engine) -> None:
    """Have *engine* connect anew after a server has become read-only: after a fail-over another one takes writes."""

    def on_error(context: sa.engine.ExceptionContext) -> None:
        if getattr(context.original_exception, "sqlstate", None) == _READ_ONLY:
            context.is_disconnect = True

    sa.event.listen(engine, "handle_error", on_error)


def shown_url(engine: sa.Engine) -> str:
    """Return the address of the database without its password."""
    return engine.url.render_as_string(hide_password=True)


def _cause_of(exc: BaseException) -> BaseException:
    return getattr(exc, "orig", None) or exc


def _one_line(exc: BaseException) -> str:
    """Return the text of the driver's own error; psycopg's have several lines."""
    return " ".join(str(_cause_of(exc)).split())


def insert_or_ignore(tx: sa.Connection, table: sa.Table, values: Mapping[str, Any]) -> bool:
    """Insert a row unless one with its keys exists, and return whether it was inserted."""
    insert = _INSERT[tx.dialect.name](table).values(**values).on_conflict_do_nothing()
    # SQLAlchemy keeps the count of inserted rows only on request.
    return tx.execute(insert, execution_options={"preserve_rowcount": True}).rowcount == 1


def upsert(
    tx: sa.Connection, table: sa.Table, keys: tuple[str, ...], *rows: Mapping[str, Any], is_counted: bool = True
) -> None:
    """Insert each of *rows*, all with the same columns, or overwrite the row with the same *keys*.

    A change that is not *counted* needs no new reading by others, see `registry.changes`.
    """
    if not rows:
        return
    insert = _INSERT[tx.dialect.name](table)
    options: dict[str, Any] = {} if is_counted else {UNCOUNTED: True}
    rest = {name: insert.excluded[name] for name in rows[0] if name not in keys}
    tx.execute(
        insert.on_conflict_do_update(index_elements=list(keys), set_=rest), list(rows), execution_options=options
    )
