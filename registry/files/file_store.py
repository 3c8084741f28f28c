"""Uploaded and produced files: one row each, with the bytes in the artifact store."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Final, Literal

import sqlalchemy as sa

from registry import tables
from registry.artifacts import ArtifactStore
from registry.errors import Conflict, NotFound
from registry.files.report_tables import file_reports
from registry.states import ReportState
from registry.transactions import Transactions
from registry.types import LOCAL_TENANT, File

REPORTED_PURPOSE: Final = "fine-tune"
"""Purpose of the files that get a report."""

ReadersOf = Callable[[sa.Connection, str], builtins.list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDraft:
    """The facts of a file that its sender gives."""

    filename: str
    purpose: str
    owner: str
    tenant: str
    expires_after_s: int | None
    """How long the file is kept; None keeps it until it is deleted."""


class FileStore:
    """Stores files by id. An expired file is there for the jobs and batches that read it, and for nobody else."""

    def __init__(self, transactions: Transactions, artifacts: ArtifactStore, readers_of: ReadersOf) -> None:
        """*readers_of* returns the jobs and batches that still read a file."""
        self._tx = transactions
        self._artifacts = artifacts
        self._readers_of = readers_of

    def add(  # noqa: PLR0913  a file is exactly these facts
        self,
        chunks: Iterable[bytes],
        *,
        filename: str,
        purpose: str,
        owner: str,
        tenant: str = LOCAL_TENANT,
        expires_after_s: int | None = None,
    ) -> File:
        """Store the bytes and their row, or neither. `StorageFull` if the disk has no room."""
        draft = FileDraft(
            filename=filename, purpose=purpose, owner=owner, tenant=tenant, expires_after_s=expires_after_s
        )
        with self._artifacts.publishing() as staging:
            digest, size = staging.put_chunks(chunks)
            with staging.committing() as install, self._tx.write() as tx:
                file = insert_file(tx, draft, digest, size, self._tx.now())
                # Last, so that everything that can fail in the database fails before bytes are installed.
                install(tx)
        return file

    def get(self, file_id: str, tenant: str | None = None) -> File:
        """Return the file with this id, of *tenant* if one is given. Raises `NotFound`, also once it has expired."""
        with self._tx.read() as tx:
            return file_of(self._find(tx, file_id, tenant))

    def held(self, file_id: str) -> File:
        """Return the file with this id for what reads it, which keeps it beyond its time. Raises `NotFound`."""
        with self._tx.read() as tx:
            return file_of(find_file(tx, file_id))

    def with_bytes(self, digest: str, preferred: str) -> File | None:
        """Return a file of any tenant with these bytes, *preferred* if that one has them; None without one."""
        query = sa.select(tables.files).where(tables.files.c.digest == digest)
        with self._tx.read() as tx:
            found = [file_of(row) for row in tx.execute(query.order_by(tables.files.c.seq)).mappings()]
        return next((file for file in found if file.id == preferred), found[0] if found else None)

    def path(self, file: File) -> Path:
        """Return the path of the bytes, verified. Raises `ArtifactCorrupt`, or `NotFound` after a deletion."""
        return self._artifacts.file(file.digest)

    def delete(self, file_id: str) -> None:
        """Remove the row, and the bytes and their report unless another file has the same ones.

        Raises `NotFound`, and `Conflict` while a job or batch that has not ended reads the file.
        """
        # The transaction is the inner context: the row is gone when `discarding` looks for rows with these bytes.
        file = self.held(file_id)
        with self._artifacts.discarding(file.digest), self._tx.write() as tx:
            if readers := self._readers_of(tx, file_id):
                raise Conflict(f"file {file_id} is in use by {', '.join(readers[:5])}; cancel or await it first")
            if tx.execute(sa.delete(tables.files).where(tables.files.c.id == file_id)).rowcount != 1:
                raise NotFound(f"there is no file {file_id!r}")
            # The report has excerpts of the rows; a review has none, and is kept as whoever signed it meant it.
            unused = ~sa.exists().where(tables.files.c.digest == file_reports.c.digest)
            tx.execute(sa.delete(file_reports).where(file_reports.c.digest == file.digest, unused))

    def remove_expired(self) -> builtins.list[str]:
        """Remove the files whose time is over and that nothing reads; return their ids."""
        files = tables.files
        over = sa.select(files.c.id).where(files.c.expires_at <= self._tx.now()).order_by(files.c.seq)
        with self._tx.read() as tx:
            unused = [file_id for file_id in tx.execute(over).scalars() if not self._readers_of(tx, file_id)]
        removed = []
        for file_id in unused:
            # Another process may have removed it, or something may read it now, since the reading above.
            with suppress(NotFound, Conflict):
                self.delete(file_id)
                removed.append(file_id)
        return removed

    def list(
        self,
        purposes: Collection[str] | None = None,
        limit: int = 10000,
        order: Literal["asc", "desc"] = "desc",
        after: str | None = None,
        tenant: str | None = None,
    ) -> builtins.list[File]:
        """Return files, newest first, or oldest first with `asc`; *after* is the last id of the previous page.

        With *tenant* only files of that tenant, with *purposes* only those of one of them.
        """
        seq, expires_at = tables.files.c.seq, tables.files.c.expires_at
        query = sa.select(tables.files).order_by(seq.desc() if order == "desc" else seq.asc()).limit(limit)
        query = query.where(sa.or_(expires_at.is_(None), expires_at > self._tx.now()))
        if purposes is not None:
            query = query.where(tables.files.c.purpose.in_(purposes))
        if tenant is not None:
            query = query.where(tables.files.c.tenant == tenant)
        with self._tx.read() as tx:
            if after is not None:
                last = self._find(tx, after, tenant)["seq"]
                query = query.where(seq < last if order == "desc" else seq > last)
            return [file_of(row) for row in tx.execute(query).mappings()]

    def _find(self, tx: sa.Connection, file_id: str, tenant: str | None) -> sa.RowMapping:
        row = find_file(tx, file_id)
        is_over = row["expires_at"] is not None and row["expires_at"] <= self._tx.now()
        # A file of another tenant is answered like one that does not exist.
        if is_over or tenant not in (None, row["tenant"]):
            raise NotFound(f"there is no file {file_id!r}")
        return row


def insert_file(tx: sa.Connection, draft: FileDraft, digest: str, size_bytes: int, at: float) -> File:
    """Enter a file whose bytes are installed in the same transaction, and return it."""
    row = {
        "id": f"file-{token_hex(12)}",
        "filename": draft.filename,
        "purpose": draft.purpose,
        "size_bytes": size_bytes,
        "digest": digest,
        "owner": draft.owner,
        "tenant": draft.tenant,
        "created_at": at,
        "expires_at": None if draft.expires_after_s is None else at + draft.expires_after_s,
        "report_state": ReportState.WAITING if draft.purpose == REPORTED_PURPOSE else None,
    }
    tx.execute(sa.insert(tables.files).values(row))
    return file_of(find_file(tx, str(row["id"])))


def find_file(tx: sa.Connection, file_id: str) -> sa.RowMapping:
    """Return the row of the file, expired or not. Raises `NotFound`."""
    row = tx.execute(sa.select(tables.files).where(tables.files.c.id == file_id)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no file {file_id!r}")
    return row


def file_of(row: sa.RowMapping) -> File:
    """Return a row of `files` as a value."""
    state = row["report_state"]
    fields = {name: value for name, value in row.items() if name not in ("seq", "report_state")}
    return File(**fields, report_state=None if state is None else ReportState(state))
