"""Uploaded and produced files: one row each, with the bytes in the artifact store."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable
from pathlib import Path
from secrets import token_hex
from typing import Literal

import sqlalchemy as sa

from registry import tables
from registry.artifacts import ArtifactStore
from registry.errors import Conflict, NotFound
from registry.transactions import Transactions
from registry.types import LOCAL_TENANT, File

ReadersOf = Callable[[sa.Connection, str], builtins.list[str]]


class FileStore:
    """Stores files by id."""

    def __init__(self, transactions: Transactions, artifacts: ArtifactStore, readers_of: ReadersOf) -> None:
        """*readers_of* returns the jobs that still read a file."""
        self._tx = transactions
        self._artifacts = artifacts
        self._readers_of = readers_of

    def add(
        self, chunks: Iterable[bytes], *, filename: str, purpose: str, owner: str, tenant: str = LOCAL_TENANT
    ) -> File:
        """Store the bytes and their row, or neither. `StorageFull` if the disk has no room."""
        file_id = f"file-{token_hex(12)}"
        with self._artifacts.publishing() as staging:
            digest, size = staging.put_chunks(chunks)
            with staging.committing() as install, self._tx.write() as tx:
                row = {
                    "id": file_id,
                    "filename": filename,
                    "purpose": purpose,
                    "size_bytes": size,
                    "digest": digest,
                    "owner": owner,
                    "tenant": tenant,
                    "created_at": self._tx.now(),
                }
                tx.execute(sa.insert(tables.files).values(row))
                file = _file_of(_find(tx, file_id))
                # Last, so that everything that can fail in the database fails before bytes are installed.
                install()
        return file

    def get(self, file_id: str, tenant: str | None = None) -> File:
        """Return the file with this id, of *tenant* if one is given. Raises `NotFound`."""
        with self._tx.read() as tx:
            return _file_of(_find(tx, file_id, tenant))

    def with_bytes(self, digest: str, preferred: str) -> File | None:
        """Return a file of any tenant with these bytes, *preferred* if that one has them; None without one."""
        query = sa.select(tables.files).where(tables.files.c.digest == digest)
        with self._tx.read() as tx:
            found = [_file_of(row) for row in tx.execute(query.order_by(tables.files.c.seq)).mappings()]
        return next((file for file in found if file.id == preferred), found[0] if found else None)

    def path(self, file: File) -> Path:
        """Return the path of the bytes, verified. Raises `ArtifactCorrupt`, or `NotFound` after a deletion."""
        return self._artifacts.file(file.digest)

    def delete(self, file_id: str) -> None:
        """Remove the row, and the bytes unless another file has the same ones.

        Raises `NotFound`, and `Conflict` while a job that has not ended reads the file.
        """
        # The transaction is the inner context: the row is gone when `discarding` looks for rows with these bytes.
        with self._artifacts.discarding(self.get(file_id).digest), self._tx.write() as tx:
            if readers := self._readers_of(tx, file_id):
                raise Conflict(f"file {file_id} is in use by {', '.join(readers[:5])}; cancel or await it first")
            if tx.execute(sa.delete(tables.files).where(tables.files.c.id == file_id)).rowcount != 1:
                raise NotFound(f"there is no file {file_id!r}")

    def list(
        self,
        purpose: str | None = None,
        limit: int = 10000,
        order: Literal["asc", "desc"] = "desc",
        after: str | None = None,
        tenant: str | None = None,
    ) -> builtins.list[File]:
        """Return files, newest first, or oldest first with `asc`; *after* is the last id of the previous page.

        With *tenant* only files of that tenant.
        """
        seq = tables.files.c.seq
        query = sa.select(tables.files).order_by(seq.desc() if order == "desc" else seq.asc()).limit(limit)
        if purpose is not None:
            query = query.where(tables.files.c.purpose == purpose)
        if tenant is not None:
            query = query.where(tables.files.c.tenant == tenant)
        with self._tx.read() as tx:
            if after is not None:
                last = _find(tx, after, tenant)["seq"]
                query = query.where(seq < last if order == "desc" else seq > last)
            return [_file_of(row) for row in tx.execute(query).mappings()]


def _find(tx: sa.Connection, file_id: str, tenant: str | None = None) -> sa.RowMapping:
    row = tx.execute(sa.select(tables.files).where(tables.files.c.id == file_id)).mappings().one_or_none()
    # A file of another tenant is answered like one that does not exist.
    if row is None or tenant not in (None, row["tenant"]):
        raise NotFound(f"there is no file {file_id!r}")
    return row


def _file_of(row: sa.RowMapping) -> File:
    return File(**{name: value for name, value in row.items() if name != "seq"})
