"""`/v1/files`: upload, list, read, delete. A fine-tuning file is checked line by line before it is stored."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import IO, Annotated, Literal

from fastapi import APIRouter, Form, Query, Request, UploadFile
from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send

from gateway.deps import Author, AuthorDep, CallerDep, Gateway, GatewayDep, KnownQuery
from gateway.errors import BodyTooLarge, InvalidRequest
from gateway.objects.files import DeletedFile, FileObject
from gateway.objects.lists import ObjectPage, page_of
from registry.contracts.training_upload import check_training_upload
from registry.errors import NotFound
from registry.types import File

router = APIRouter(dependencies=[KnownQuery])

PURPOSES = ("fine-tune",)
FORM_FIELDS = ("file", "purpose")
_CHUNK_BYTES = 1 << 20
_LONGEST_NAME = 255


class OpenedFile(FileResponse):
    """Sends the bytes of a file that is open already, so that a deletion meanwhile does not cut the answer short."""

    def __init__(self, opened: IO[bytes], filename: str) -> None:
        """The file is closed after the answer."""
        number = opened.fileno()
        stat = os.fstat(number)
        # Opening this path reaches the open file, whether or not it still has a name.
        path = f"/dev/fd/{number}"
        super().__init__(path, filename=filename, media_type="application/octet-stream", stat_result=stat)
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send head and bytes, the head alone in answer to HEAD."""
        if scope.get("state", {}).get("is_head"):
            scope = {**scope, "method": "HEAD"}
        with self._opened:
            await super().__call__(scope, receive, send)


@router.post("/v1/files")
async def upload_file(
    request: Request, file: UploadFile, purpose: Annotated[str, Form()], gateway: GatewayDep, author: AuthorDep
) -> FileObject:
    """Store the file; 400 names line and field of the first fault, and nothing is stored."""
    for field in await request.form():
        if field.startswith("expires_after"):
            raise InvalidRequest("expires_after is not supported: a file is kept until it is deleted", param=field[:64])
        if field not in FORM_FIELDS:
            raise InvalidRequest(f"unknown field {field[:64]!r}; there are file and purpose", param=field[:64])
    if purpose not in PURPOSES:
        raise InvalidRequest(f"purpose must be one of {', '.join(PURPOSES)}; got {purpose!r}", param="purpose")
    name = file.filename or ""
    if len(name) > _LONGEST_NAME or "\0" in name:
        raise InvalidRequest(f"the filename must have at most {_LONGEST_NAME} characters, and no NUL", param="file")
    limit = gateway.settings.max_upload_bytes
    if (file.size or 0) > limit:
        raise BodyTooLarge(f"the file is larger than {limit} bytes", param="file")
    # `ask` may ask twice, and the upload is read only once.
    return file_object(await asyncio.to_thread(_store, gateway, file, purpose, author))


def _store(gateway: Gateway, upload: UploadFile, purpose: str, author: Author) -> File:
    check_training_upload(upload.file)
    upload.file.seek(0)
    name = upload.filename or "upload.jsonl"
    chunks = _chunks(upload.file)
    return gateway.registry.files.add(
        chunks, filename=name, purpose=purpose, owner=author.name, tenant=author.caller.tenant
    )


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK_BYTES):
        yield chunk


@router.get("/v1/files")
async def list_files(  # noqa: PLR0913  its parameters are those of the query
    gateway: GatewayDep,
    caller: CallerDep,
    purpose: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10000)] = 10000,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
) -> ObjectPage[FileObject]:
    """List the files, newest first unless asked otherwise."""
    files = gateway.registry.files
    found = await gateway.ask(
        files.list, purpose=purpose, limit=limit + 1, order=order, after=after, tenant=caller.sees
    )
    return page_of([file_object(file) for file in found], limit)


@router.get("/v1/files/{file_id}")
async def get_file(file_id: str, gateway: GatewayDep, caller: CallerDep) -> FileObject:
    """Describe one file."""
    return file_object(await gateway.ask(gateway.registry.files.get, file_id, caller.sees))


@router.get("/v1/files/{file_id}/content", response_class=FileResponse)
async def get_content(file_id: str, gateway: GatewayDep, caller: CallerDep) -> FileResponse:
    """Send the file's bytes, verified."""
    file = await gateway.ask(gateway.registry.files.get, file_id, caller.sees)
    path = await gateway.ask(gateway.registry.files.path, file)
    try:
        return await asyncio.to_thread(lambda: OpenedFile(path.open("rb"), file.filename))
    except FileNotFoundError as exc:
        raise NotFound(f"there is no file {file_id!r}: it was deleted just now") from exc


@router.delete("/v1/files/{file_id}")
async def delete_file(file_id: str, gateway: GatewayDep, caller: CallerDep) -> DeletedFile:
    """Delete the file; 409 while a job that has not ended reads it."""
    await gateway.ask(gateway.registry.files.get, file_id, caller.sees)
    await gateway.ask(gateway.registry.files.delete, file_id)
    return DeletedFile(id=file_id)


def file_object(file: File) -> FileObject:
    """Return OpenAI's `file` object."""
    return FileObject(
        id=file.id,
        bytes=file.size_bytes,
        created_at=int(file.created_at),
        filename=file.filename,
        purpose=file.purpose,
    )
