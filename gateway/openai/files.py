"""`/v1/files`: upload, list, read, delete. A fine-tuning file is checked line by line before it is stored."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from typing import IO, Annotated, Any, Final, Literal

from fastapi import APIRouter, Form, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from pydantic import Field, ValidationError
from starlette.datastructures import FormData
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from gateway.deps import AuthorDep, CallerDep, Gateway, GatewayDep, KnownQuery
from gateway.errors import BodyTooLarge, InvalidRequest, ScopeMissing
from gateway.keys.caller import Caller
from gateway.objects.files import DeletedFile, FileObject
from gateway.objects.lists import ObjectPage, page_of
from gateway.openai.job_pictures import check_unnamed
from gateway.openai.types import Body, whole_seconds
from registry.batches.batch import OUTPUT_PURPOSE
from registry.contracts.uploads.file_purposes import BATCH, PURPOSES, FilePurpose
from registry.errors import NotFound
from registry.keys import Scope
from registry.publishing.job_end import RESULTS_PURPOSE
from registry.states import ReportState
from registry.types import File
from registry.wording.suggestions import meant_or_known

router = APIRouter(dependencies=[KnownQuery], tags=["files"])

EXPIRES_AFTER: Final = "expires_after"
FORM_FIELDS: Final = ("file", "purpose", f"{EXPIRES_AFTER}[anchor]", f"{EXPIRES_AFTER}[seconds]")
WITHOUT_NULLS: Final[Any] = {"response_model_exclude_none": True}
"""OpenAI leaves out what a file does not have, and the types of its SDK for JavaScript allow no null there."""
BYTES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}
"""The answer with a file's bytes, for the description."""
_CHUNK_BYTES: Final = 1 << 20
_OF_BATCHES: Final = (BATCH.name, OUTPUT_PURPOSE)
_LONGEST_NAME: Final = 255


class ExpiresAfter(Body):
    """`expires_after`: how long after its creation a file is removed."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2592000)]


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

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Send head and bytes, the head alone in answer to HEAD."""
        if scope.get("state", {}).get("is_head"):
            scope = {**scope, "method": "HEAD"}
        with self._opened:
            await super().__call__(scope, receive, send)


@router.post("/v1/files", **WITHOUT_NULLS)
async def upload_file(
    request: Request, file: UploadFile, purpose: Annotated[str, Form()], gateway: GatewayDep, author: AuthorDep
) -> FileObject:
    """Store the file; 400 names line and field of the first fault of training data, and nothing is stored."""
    form = await request.form()
    if unknown := next((field for field in form if field not in FORM_FIELDS), None):
        listed = ", ".join(FORM_FIELDS)
        raise InvalidRequest(f"unknown field {unknown[:64]!r}; there are {listed}", param=unknown[:64])
    meant = purpose_of(purpose)
    check_purpose(author.caller, meant.name)
    expires_after_s = kept_for(meant, _expires_after(form))
    check_filename(file.filename or "", "file")
    limit = gateway.settings.max_upload_bytes
    if (file.size or 0) > limit:
        raise BodyTooLarge(f"the file is larger than {limit} bytes", param="file")

    def store() -> File:
        meant.check(file.file)
        file.file.seek(0)
        return gateway.registry.files.add(
            chunks_of(file.file),
            filename=file.filename or "upload.jsonl",
            purpose=meant.name,
            owner=author.name,
            tenant=author.caller.tenant,
            expires_after_s=expires_after_s,
        )

    # `ask` may ask twice, and the upload is read only once.
    return file_object(await asyncio.to_thread(store))


def purpose_of(name: str) -> FilePurpose:
    """Return the purpose of this name; `InvalidRequest` lists those that there are."""
    if name not in PURPOSES:
        raise InvalidRequest(f"purpose must be one of {', '.join(PURPOSES)}; got {name[:64]!r}", param="purpose")
    return PURPOSES[name]


def check_purpose(caller: Caller, purpose: str) -> None:
    """Raise `ScopeMissing` unless the caller's scopes are for files of this purpose: those of batches need no other."""
    if purpose not in _OF_BATCHES and Scope.TRAINING not in caller.scopes:
        listed = " and ".join(_OF_BATCHES)
        raise ScopeMissing(f"the key {caller.name!r} lacks the scope training; without it files are for {listed}")


def kept_for(purpose: FilePurpose, asked: ExpiresAfter | None) -> int | None:
    """Return for how many seconds a file is kept; None until it is deleted."""
    return purpose.expires_after_s if asked is None else asked.seconds


def check_filename(name: str, param: str) -> None:
    """Raise `InvalidRequest`, which names *param*, for a name that is too long or has a NUL."""
    if len(name) > _LONGEST_NAME or "\0" in name:
        raise InvalidRequest(f"the filename must have at most {_LONGEST_NAME} characters, and no NUL", param=param)


def _expires_after(form: FormData) -> ExpiresAfter | None:
    """Return the value of the form's fields `expires_after[...]`."""
    given = {
        field.removeprefix(f"{EXPIRES_AFTER}[").removesuffix("]"): value
        for field, value in form.items()
        if field.startswith(EXPIRES_AFTER)
    }
    try:
        return ExpiresAfter.model_validate(given) if given else None
    except ValidationError as exc:
        errors = [{**error, "loc": ("body", EXPIRES_AFTER, *error["loc"])} for error in exc.errors()]
        raise RequestValidationError(errors, body={EXPIRES_AFTER: given}) from exc


def chunks_of(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the bytes of *stream* from where it stands."""
    while chunk := stream.read(_CHUNK_BYTES):
        yield chunk


@router.get("/v1/files", **WITHOUT_NULLS)
async def list_files(  # noqa: PLR0913  its parameters are those of the query
    gateway: GatewayDep,
    caller: CallerDep,
    purpose: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10000)] = 10000,
    order: Literal["asc", "desc"] = "desc",
    after: str | None = None,
) -> ObjectPage[FileObject]:
    """List the files, newest first unless asked otherwise."""
    known = (*PURPOSES, RESULTS_PURPOSE, OUTPUT_PURPOSE)
    if purpose is not None and purpose not in known:
        hint = meant_or_known(purpose, known)
        raise InvalidRequest(f"purpose: no file is for {purpose[:64]!r}{hint}", param="purpose")
    if purpose is not None:
        check_purpose(caller, purpose)
    purposes = (purpose,) if purpose is not None else None if Scope.TRAINING in caller.scopes else _OF_BATCHES
    files = gateway.registry.files
    found = await gateway.ask(
        files.list, purposes=purposes, limit=limit + 1, order=order, after=after, tenant=caller.sees
    )
    return page_of([file_object(file) for file in found], limit)


async def find_file(file_id: str, gateway: Gateway, caller: Caller) -> File:
    """Return the file if the caller sees it and its scopes are for it. Raises `NotFound`, `ScopeMissing`."""
    file = await gateway.ask(gateway.registry.files.get, file_id, caller.sees)
    check_purpose(caller, file.purpose)
    return file


@router.get("/v1/files/{file_id}", **WITHOUT_NULLS)
async def get_file(file_id: str, gateway: GatewayDep, caller: CallerDep) -> FileObject:
    """Describe one file."""
    return file_object(await find_file(file_id, gateway, caller))


@router.get("/v1/files/{file_id}/content", response_class=FileResponse, responses=BYTES)
async def get_content(file_id: str, gateway: GatewayDep, caller: CallerDep) -> FileResponse:
    """Send the file's bytes, verified."""
    file = await find_file(file_id, gateway, caller)
    path = await gateway.ask(gateway.registry.files.path, file)
    try:
        return await asyncio.to_thread(lambda: OpenedFile(path.open("rb"), file.filename))
    except FileNotFoundError as exc:
        raise NotFound(f"there is no file {file_id!r}: it was deleted just now") from exc


@router.delete("/v1/files/{file_id}")
async def delete_file(file_id: str, gateway: GatewayDep, caller: CallerDep) -> DeletedFile:
    """Delete the file; 409 while a job or batch that has not ended reads it, or a file that names it as a picture."""
    await find_file(file_id, gateway, caller)
    await gateway.ask(check_unnamed, gateway.registry, file_id)
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
        expires_at=whole_seconds(file.expires_at),
        status=_STATUS[file.report_state],
        status_details=file.report_message or None,
    )


_STATUS: Final[Mapping[ReportState | None, Literal["uploaded", "processed", "error"]]] = {
    None: "processed",
    ReportState.WAITING: "uploaded",
    ReportState.WORKING: "uploaded",
    ReportState.DONE: "processed",
    ReportState.FAILED: "error",
}
