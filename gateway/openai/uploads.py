"""`/v1/uploads`: a file in parts, through any gateway, also after a restart."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Request, UploadFile
from pydantic import Field

from gateway.deps import AuthorDep, CallerDep, Gateway, GatewayDep, KnownQuery
from gateway.errors import BodyTooLarge, InvalidRequest
from gateway.keys.caller import Caller
from gateway.objects.files import UploadObject, UploadPartObject
from gateway.openai.files import (
    WITHOUT_NULLS,
    ExpiresAfter,
    check_filename,
    check_purpose,
    chunks_of,
    file_object,
    kept_for,
    purpose_of,
)
from gateway.openai.types import Body
from registry.contracts.uploads.file_purposes import PURPOSES
from registry.errors import NotFound
from registry.files.upload import MOST_PARTS, PART_BYTES, Upload, UploadDraft, UploadPart
from registry.wording.field_faults import written_as

router = APIRouter(prefix="/v1/uploads", dependencies=[KnownQuery], tags=["files"])


class CreateUpload(Body):
    """Body of `POST /v1/uploads`."""

    bytes: Annotated[int, Field(ge=1)]
    filename: Annotated[str, Field(min_length=1)]
    mime_type: Annotated[str, Field(min_length=1, max_length=255)]
    purpose: str
    expires_after: ExpiresAfter | None = None


class CompleteUpload(Body):
    """Body of `POST /v1/uploads/{upload_id}/complete`."""

    part_ids: Annotated[list[str], Field(min_length=1, max_length=MOST_PARTS)]
    md5: Annotated[str, written_as("[0-9a-fA-F]{32}", "the 32 hexadecimal digits of an MD5")] | None = None


@router.post("", **WITHOUT_NULLS)
async def create_upload(body: CreateUpload, gateway: GatewayDep, author: AuthorDep) -> UploadObject:
    """Announce a file; it must be completed within an hour."""
    purpose = purpose_of(body.purpose)
    check_purpose(author.caller, purpose.name)
    check_filename(body.filename, "filename")
    limit = gateway.settings.max_upload_bytes
    if body.bytes > limit:
        raise BodyTooLarge(f"a file may have {limit} bytes, not {body.bytes}", param="bytes")
    draft = UploadDraft(
        filename=body.filename,
        purpose=purpose.name,
        mime_type=body.mime_type,
        size_bytes=body.bytes,
        file_expires_after_s=kept_for(purpose, body.expires_after),
        owner=author.name,
        tenant=author.caller.tenant,
    )
    uploads = gateway.registry.uploads
    return await upload_object(gateway, await gateway.ask(uploads.create, draft, gateway.settings.max_pending_uploads))


@router.post("/{upload_id}/parts")
async def add_part(
    upload_id: str, request: Request, data: UploadFile, gateway: GatewayDep, caller: CallerDep
) -> UploadPartObject:
    """Store a part of at most 64 MiB; parts may come in any order and at once."""
    if unknown := next((field for field in await request.form() if field != "data"), None):
        raise InvalidRequest(f"unknown field {unknown[:64]!r}; there is data", param=unknown[:64])
    if (data.size or 0) > PART_BYTES:
        raise BodyTooLarge(f"the part is larger than {PART_BYTES} bytes", param="data")
    chunks = chunks_of(data.file)
    await find_upload(upload_id, gateway, caller)
    # `ask` may ask twice, and the part is read only once.
    part = await asyncio.to_thread(gateway.registry.uploads.add_part, upload_id, chunks, caller.sees)
    return part_object(part)


@router.post("/{upload_id}/complete", **WITHOUT_NULLS)
async def complete_upload(upload_id: str, body: CompleteUpload, gateway: GatewayDep, caller: CallerDep) -> UploadObject:
    """Make a file of the parts in the order of `part_ids`; 400 if they are not the file that was announced."""
    uploads, sees = gateway.registry.uploads, caller.sees
    check = PURPOSES[(await find_upload(upload_id, gateway, caller)).purpose].check
    done = await gateway.ask(uploads.complete, upload_id, body.part_ids, body.md5, check, sees)
    return await upload_object(gateway, done)


@router.post("/{upload_id}/cancel", **WITHOUT_NULLS)
async def cancel_upload(upload_id: str, gateway: GatewayDep, caller: CallerDep) -> UploadObject:
    """End the upload without a file."""
    await find_upload(upload_id, gateway, caller)
    return await upload_object(gateway, await gateway.ask(gateway.registry.uploads.cancel, upload_id, caller.sees))


async def find_upload(upload_id: str, gateway: Gateway, caller: Caller) -> Upload:
    """Return the upload if the caller sees it and its scopes are for it. Raises `NotFound`, `ScopeMissing`."""
    upload = await gateway.ask(gateway.registry.uploads.get, upload_id, caller.sees)
    check_purpose(caller, upload.purpose)
    return upload


async def upload_object(gateway: Gateway, upload: Upload) -> UploadObject:
    """Return OpenAI's `upload` object, with the file unless that was deleted since."""
    file = None
    if upload.file_id is not None:
        try:
            file = file_object(await gateway.ask(gateway.registry.files.get, upload.file_id))
        except NotFound:
            file = None
    return UploadObject(
        id=upload.id,
        bytes=upload.size_bytes,
        created_at=int(upload.created_at),
        expires_at=int(upload.expires_at),
        filename=upload.filename,
        purpose=upload.purpose,
        status=upload.state,
        file=file,
    )


def part_object(part: UploadPart) -> UploadPartObject:
    """Return OpenAI's `upload.part` object."""
    return UploadPartObject(id=part.id, created_at=int(part.created_at), upload_id=part.upload_id)
