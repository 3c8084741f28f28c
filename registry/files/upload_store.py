"""Uploads in parts, in the database and the artifact store, so that any gateway can go on with one after a restart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from hashlib import md5
from pathlib import Path
from secrets import token_hex
from typing import IO, Any

import sqlalchemy as sa

from registry.artifacts import CHUNK_BYTES, ArtifactStore
from registry.errors import Conflict, IllegalMove, NotFound, UploadRejected
from registry.files.file_store import FileDraft, insert_file
from registry.files.upload import LASTS_S, MOST_PARTS, Upload, UploadDraft, UploadPart, UploadState
from registry.files.upload_tables import upload_parts, uploads
from registry.transactions import Transactions

Check = Callable[[IO[bytes]], object]
"""Raises an error of the registry for bytes that do not fit the file's purpose."""


class UploadStore:
    """Stores unfinished uploads and makes files of them. With *tenant* an upload of another tenant does not exist."""

    def __init__(self, transactions: Transactions, artifacts: ArtifactStore) -> None:
        self._tx = transactions
        self._artifacts = artifacts

    def create(self, draft: UploadDraft, most_pending: int) -> Upload:
        """Announce a file; `Conflict` if its tenant has *most_pending* unfinished uploads already."""
        now = self._tx.now()
        pending = sa.select(sa.func.count()).where(
            uploads.c.tenant == draft.tenant, uploads.c.state == UploadState.PENDING, uploads.c.expires_at > now
        )
        row = {
            "id": f"upload_{token_hex(12)}",
            "filename": draft.filename,
            "purpose": draft.purpose,
            "mime_type": draft.mime_type,
            "size_bytes": draft.size_bytes,
            "file_expires_after_s": draft.file_expires_after_s,
            "state": UploadState.PENDING,
            "owner": draft.owner,
            "tenant": draft.tenant,
            "created_at": now,
            "expires_at": now + LASTS_S,
        }
        with self._tx.write() as tx:
            if tx.execute(pending).scalar_one() >= most_pending:
                raise Conflict(f"{most_pending} uploads are unfinished; complete or cancel one of them first")
            tx.execute(sa.insert(uploads).values(row))
            return _find(tx, str(row["id"]))

    def get(self, upload_id: str, tenant: str | None = None) -> Upload:
        """Return the upload as it is now. Raises `NotFound`."""
        with self._tx.read() as tx:
            return self._as_of_now(_find(tx, upload_id, tenant))

    def add_part(self, upload_id: str, chunks: Iterable[bytes], tenant: str | None = None) -> UploadPart:
        """Store a part. Raises `NotFound`, `IllegalMove` unless pending, `UploadRejected`, `StorageFull`."""
        self._check_pending(self.get(upload_id, tenant))  # before any byte is written
        with self._artifacts.publishing() as staging:
            digest, size = staging.put_chunks(chunks)
            with staging.committing() as install, self._tx.write() as tx:
                upload = self._pending(tx, upload_id, tenant)
                _check_room(upload, _parts_of(tx, upload_id), size)
                row = {
                    "id": f"part_{token_hex(12)}",
                    "upload_id": upload_id,
                    "size_bytes": size,
                    "digest": digest,
                    "created_at": self._tx.now(),
                }
                tx.execute(sa.insert(upload_parts).values(row))
                install(tx)
        return UploadPart(**row)  # type: ignore[arg-type]  # the fields of the row that was just written

    def complete(
        self, upload_id: str, part_ids: Sequence[str], checksum: str | None, check: Check, tenant: str | None = None
    ) -> Upload:
        """Make a file of the parts in this order; an upload that is completed already is returned as it is.

        *checksum* is the md5 of the whole file in hex. Raises `NotFound`, `IllegalMove`, `UploadRejected`,
        `StorageFull`, and what *check* raises.
        """
        with self._tx.read() as tx:
            upload = self._as_of_now(_find(tx, upload_id, tenant))
            if upload.state is UploadState.COMPLETED:
                return upload
            self._check_pending(upload)
            parts = _in_order(_parts_of(tx, upload_id), part_ids)
        _check_sum_of_sizes(upload, parts)
        with self._artifacts.publishing() as staging:
            seen = md5(usedforsecurity=False)
            digest, size = staging.put_chunks(_joined([self._artifacts.file(part.digest) for part in parts], seen))
            if checksum is not None and checksum.lower() != seen.hexdigest():
                raise UploadRejected(f"md5: the parts have the md5 {seen.hexdigest()}, not {checksum[:64]}")
            with staging.file(digest).open("rb") as whole:
                check(whole)
            with staging.committing() as install, self._tx.write() as tx:
                upload = self._pending(tx, upload_id, tenant)
                file = insert_file(tx, _file_draft(upload), digest, size, self._tx.now())
                done = _move(tx, upload, UploadState.COMPLETED, file_id=file.id)
                install(tx)
        return done

    def cancel(self, upload_id: str, tenant: str | None = None) -> Upload:
        """End the upload without a file; `IllegalMove` if it has ended otherwise."""
        with self._tx.write() as tx:
            upload = self._as_of_now(_find(tx, upload_id, tenant, lock=True))
            if upload.state is UploadState.CANCELLED:
                return upload
            self._check_pending(upload)
            return _move(tx, upload, UploadState.CANCELLED)

    def remove_ended(self) -> None:
        """End the uploads whose time is over, and remove the parts of all that have ended, with their bytes."""
        overdue = sa.and_(uploads.c.state == UploadState.PENDING, uploads.c.expires_at <= self._tx.now())
        ended = (
            sa.select(upload_parts.c.digest)
            .join(uploads, uploads.c.id == upload_parts.c.upload_id)
            .where(uploads.c.state != UploadState.PENDING)
            .distinct()
        )
        with self._tx.read() as tx:
            is_any_overdue = tx.execute(sa.select(uploads.c.id).where(overdue).limit(1)).first() is not None
        if is_any_overdue:
            with self._tx.write() as tx:
                tx.execute(sa.update(uploads).where(overdue).values(state=UploadState.EXPIRED))
        with self._tx.read() as tx:
            digests = list(tx.execute(ended).scalars())
        for digest in digests:
            # A part of an unfinished upload, or a file, may have the same bytes; then they stay.
            with self._artifacts.discarding(digest), self._tx.write() as tx:
                of_ended = sa.select(uploads.c.id).where(uploads.c.state != UploadState.PENDING)
                gone = sa.and_(upload_parts.c.digest == digest, upload_parts.c.upload_id.in_(of_ended))
                tx.execute(sa.delete(upload_parts).where(gone))

    def _pending(self, tx: sa.Connection, upload_id: str, tenant: str | None) -> Upload:
        """Return the upload, locked, if it still takes parts."""
        upload = self._as_of_now(_find(tx, upload_id, tenant, lock=True))
        self._check_pending(upload)
        return upload

    def _as_of_now(self, upload: Upload) -> Upload:
        """Return the upload with the state that it has by the clock, whether or not that was noted yet."""
        is_over = upload.state is UploadState.PENDING and upload.expires_at <= self._tx.now()
        return replace(upload, state=UploadState.EXPIRED) if is_over else upload

    @staticmethod
    def _check_pending(upload: Upload) -> None:
        if upload.state is not UploadState.PENDING:
            raise IllegalMove(f"upload {upload.id} is {upload.state}; create another one")


def _find(tx: sa.Connection, upload_id: str, tenant: str | None = None, *, lock: bool = False) -> Upload:
    query = sa.select(uploads).where(uploads.c.id == upload_id)
    row = tx.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    if row is None or tenant not in (None, row["tenant"]):
        raise NotFound(f"there is no upload {upload_id!r}")
    fields: dict[str, Any] = {name: value for name, value in row.items() if name != "seq"}
    return Upload(**(fields | {"state": UploadState(row["state"])}))


def _move(tx: sa.Connection, upload: Upload, to: UploadState, file_id: str | None = None) -> Upload:
    tx.execute(sa.update(uploads).where(uploads.c.id == upload.id).values(state=to, file_id=file_id))
    return _find(tx, upload.id)


def _parts_of(tx: sa.Connection, upload_id: str) -> dict[str, UploadPart]:
    query = sa.select(upload_parts).where(upload_parts.c.upload_id == upload_id)
    rows = tx.execute(query).mappings()
    return {row["id"]: UploadPart(**{name: row[name] for name in row if name != "seq"}) for row in rows}


def _check_room(upload: Upload, parts: dict[str, UploadPart], size: int) -> None:
    if not size:
        raise UploadRejected("data: the part is empty")
    sent = sum(part.size_bytes for part in parts.values())
    if sent + size > upload.size_bytes:
        raise UploadRejected(
            f"data: the parts would have {sent + size} bytes, but {upload.size_bytes} were announced as bytes"
        )
    if len(parts) >= MOST_PARTS:
        raise UploadRejected(f"data: an upload has at most {MOST_PARTS} parts; send larger ones")


def _in_order(parts: dict[str, UploadPart], part_ids: Sequence[str]) -> list[UploadPart]:
    if unknown := next((part_id for part_id in part_ids if part_id not in parts), None):
        raise UploadRejected(f"part_ids: {unknown[:64]!r} is not a part of this upload")
    if len(set(part_ids)) != len(part_ids):
        raise UploadRejected("part_ids: a part is named twice")
    return [parts[part_id] for part_id in part_ids]


def _check_sum_of_sizes(upload: Upload, parts: Sequence[UploadPart]) -> None:
    size = sum(part.size_bytes for part in parts)
    if size != upload.size_bytes:
        raise UploadRejected(
            f"part_ids: these parts have {size} bytes, but {upload.size_bytes} were announced as bytes"
        )


def _joined(paths: Sequence[Path], seen: Any) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as part:
            while chunk := part.read(CHUNK_BYTES):
                seen.update(chunk)
                yield chunk


def _file_draft(upload: Upload) -> FileDraft:
    return FileDraft(
        filename=upload.filename,
        purpose=upload.purpose,
        owner=upload.owner,
        tenant=upload.tenant,
        expires_after_s=upload.file_expires_after_s,
    )
