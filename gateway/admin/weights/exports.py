"""`/admin/exports`: what a model consists of, and its files as an archive."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field
from starlette.responses import StreamingResponse

from gateway.admin.weights.archive import tar_chunks, tar_size
from gateway.admin.weights.origins import ExportSource, export_source
from gateway.deps import ActorDep, AuthorDep, CallerDep, Gateway, GatewayDep
from gateway.keys.caller import Caller
from gateway.objects.weights.exports import ExportedFile, ExportObject, UploadNote
from gateway.openai.types import Body
from registry.artifacts import folder_files
from registry.disk import sha256_of
from registry.errors import ArtifactCorrupt

router = APIRouter(prefix="/admin", tags=["exports"])

TAR = "application/x-tar"


class UploadedNote(Body):
    """The body of `POST /admin/exports`."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    target: Annotated[str, Field(pattern=r"^(hf|modelscope):[^\s]{1,200}$")]
    """`hf:ORG/NAME` or `modelscope:ORG/NAME`."""
    commit: Annotated[str, Field(min_length=1, max_length=128)]
    """The commit that the hub made."""
    revision: Annotated[str, Field(min_length=1, max_length=128)]
    """The branch that it is on."""
    form: Annotated[str, Field(min_length=1, max_length=64)]
    """The form that was uploaded: `folder`, or a type of GGUF."""


@router.get("/exports/{name:path}")
async def show_export(name: str, gateway: GatewayDep, caller: CallerDep) -> ExportObject:
    """Show the files of a model of the caller's with their digests, and what made it."""
    return await gateway.ask(_read, gateway, caller, name)


@router.get(
    "/archives/{name:path}",
    response_class=StreamingResponse,
    responses={200: {"content": {TAR: {"schema": {"type": "string", "format": "binary"}}}}},
)
async def get_archive(name: str, gateway: GatewayDep, author: AuthorDep) -> StreamingResponse:
    """Send the files of a model of the caller's as a tar, as they are stored."""
    source = await gateway.ask(_taken, gateway, author.caller, name, author.name)
    names = await gateway.ask(folder_files, source.folder)
    size = await gateway.ask(tar_size, source.folder, names)
    headers = {"content-length": str(size), "x-lorry-digest": source.digest}
    return StreamingResponse(tar_chunks(source.folder, names), media_type=TAR, headers=headers)


@router.post("/exports")
async def note_upload(body: UploadedNote, gateway: GatewayDep, caller: CallerDep, actor: ActorDep) -> UploadNote:
    """Record in the audit log that a model of the caller's was uploaded to a hub."""

    def record() -> UploadNote:
        source = export_source(gateway.registry, caller, body.model)
        detail = {
            "target": body.target,
            "commit": body.commit,
            "revision": body.revision,
            "form": body.form,
            "artifact": source.digest,
        }
        gateway.registry.audit.record(actor, "model.upload", source.name, detail)
        return UploadNote(model=source.name, target=body.target, commit=body.commit)

    return await gateway.ask(record)


def _read(gateway: Gateway, caller: Caller, name: str) -> ExportObject:
    source = export_source(gateway.registry, caller, name)
    files = [
        ExportedFile(
            path=path, size_bytes=(source.folder / path).stat().st_size, sha256=sha256_of(source.folder / path)
        )
        for path in folder_files(source.folder)
    ]
    # As `folder_digest` computes it; each file is read once.
    lines = sorted(f"{file.sha256}  {file.path}\n" for file in files)
    if sha256("".join(lines).encode()).hexdigest() != source.digest:
        raise ArtifactCorrupt(f"the folder of {source.name} no longer matches its digest {source.digest[:12]}")
    return ExportObject.model_validate(
        {
            "name": source.name,
            "kind": source.kind,
            "digest": source.digest,
            "base": source.base,
            "files": files,
            "lineage": source.lineage,
        }
    )


def _taken(gateway: Gateway, caller: Caller, name: str, actor: str) -> ExportSource:
    source = export_source(gateway.registry, caller, name)
    gateway.registry.audit.record(actor, "model.download", source.name, {"artifact": source.digest})
    return source
