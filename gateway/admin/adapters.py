"""`/admin/adapters`: list, show, publish a folder, retire a revision."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request

from gateway.admin.adapter_archive import unpack_adapter
from gateway.admin.jobs import any_job
from gateway.admin.rollouts import rollout_object
from gateway.deps import ActorDep, AuthorDep, GatewayDep
from gateway.errors import BodyTooLarge, InvalidRequest
from gateway.objects.adapters import AdapterHistory, AdapterObject, ProofObject, RevisionObject, SlotObject
from gateway.objects.jobs import AnyJob
from gateway.objects.lists import ObjectList
from gateway.openai.types import Whole
from gateway.pools.base_tasks import check_generates, generates
from gateway.routing.route_table import loaded_on
from registry.database import Registry, Snapshot
from registry.errors import StorageFull
from registry.jobs.job import Job
from registry.publishing.adapter_name import check_adapter_name
from registry.publishing.publications import Upload, queue_publication
from registry.states import RevisionState
from registry.types import LOCAL_TENANT, Adapter, Revision, Slot

TAR: Final = {
    "required": True,
    "description": "A tar of the adapter's folder, also with gzip; any type that a page may not send unasked will do.",
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}
"""The body of a publication, for the description."""

router = APIRouter(prefix="/admin/adapters", tags=["adapters"])


@router.get("")
async def list_adapters(gateway: GatewayDep) -> ObjectList[AdapterObject]:
    """List every adapter with its stable revision and its open rollout, and every series of reward models."""

    def read() -> list[AdapterObject]:
        snapshot, latest = gateway.registry.snapshot(), gateway.registry.adapters.latest()
        adapters = gateway.registry.adapters.list()
        return [AdapterObject.model_validate(_adapter(each, snapshot, latest.get(each.name))) for each in adapters]

    return ObjectList(data=await gateway.ask(read))


@router.get("/{name}")
async def show_adapter(name: str, gateway: GatewayDep) -> AdapterHistory:
    """Show one adapter with all its revisions and, for each, the replicas that have it."""

    def read() -> AdapterHistory:
        adapter = gateway.registry.adapters.get(name)
        snapshot = gateway.registry.snapshot()
        revisions = [_revision(revision, snapshot) for revision in gateway.registry.adapters.revisions(name)]
        ready = [each.number for each in revisions if each.state is RevisionState.READY]
        fields = _adapter(adapter, snapshot, max(ready, default=None))
        return AdapterHistory.model_validate({**fields, "revisions": revisions})

    return await gateway.ask(read)


@router.post("/{name:path}/revisions", status_code=202, openapi_extra={"requestBody": TAR})
async def publish_revision(
    name: str, request: Request, gateway: GatewayDep, author: AuthorDep, base: str | None = None
) -> AnyJob:
    """Queue the publication of the adapter folder whose tar is the body; 422 names the part that is refused and why.

    The folder is checked and normalised at once; the job that answers makes its fingerprint and the next revision.
    *base* names the base model; it may be left out where the adapter exists or one base model does.
    """
    check_adapter_name(name)  # before the upload; a name with "/" gets here too, so that the answer says what is wrong
    limit_bytes = gateway.settings.max_upload_bytes
    with tempfile.TemporaryDirectory(prefix="lorry-publish-") as folder:
        archive = Path(folder) / "adapter.tar"
        await _save(request, archive, limit_bytes)

        def queue() -> Job:
            left_out = _unpack(archive, Path(folder) / "adapter", limit_bytes)
            upload = Upload(folder=Path(folder) / "adapter", left_out=left_out, limit_bytes=limit_bytes)
            chosen = base or _only_base(gateway.registry, name)
            check_generates(gateway.registry.at_hand(gateway.registry.bases.get(chosen)))
            claim = author.caller.claim_on(name)
            return queue_publication(
                gateway.registry, upload, adapter=name, base=chosen, owner=author.name, claim=claim
            )

        job = await asyncio.to_thread(queue)
    return await gateway.ask(any_job, job, gateway.registry)


@router.delete("/{name}/revisions/{number}")
async def retire_revision(name: str, number: Whole, gateway: GatewayDep, actor: ActorDep) -> RevisionObject:
    """Retire this revision; 409 while it is stable or in a rollout."""
    await gateway.ask(gateway.registry.adapters.retire, name, number, actor)
    snapshot = await gateway.ask(gateway.registry.snapshot)
    return _revision(await gateway.ask(gateway.registry.adapters.revision, name, number), snapshot)


async def _save(request: Request, path: Path, limit_bytes: int) -> None:
    size = 0
    try:
        with path.open("wb") as archive:
            async for part in request.stream():
                size += len(part)
                if size > limit_bytes:
                    raise BodyTooLarge(f"the folder is larger than {limit_bytes} bytes")
                archive.write(part)
    except OSError as exc:
        raise StorageFull(f"the folder could not be received: {exc.strerror}; nothing was published") from exc


def _unpack(archive: Path, folder: Path, limit_bytes: int) -> list[str]:
    try:
        return unpack_adapter(archive, folder, limit_bytes)
    except OSError as exc:
        raise StorageFull(f"the folder could not be unpacked: {exc.strerror}; nothing was published") from exc


def _only_base(registry: Registry, name: str) -> str:
    """Return the base of the adapter *name*; of a new one the only base that adapters are made for."""
    known = {adapter.name: adapter.base for adapter in registry.adapters.list()}
    if name in known:
        return known[name]
    bases = [base for base in registry.bases.list() if generates(base)]
    entered = [base.name for base in bases if base.parent is None]  # the others were made by jobs from one of these
    if len(entered) != 1:
        raise InvalidRequest(f"base must be one of {', '.join(base.name for base in bases)}", param="base")
    return entered[0]


def _adapter(adapter: Adapter, snapshot: Snapshot, latest: int | None) -> dict[str, object]:
    """Return the fields of an `AdapterObject`."""
    rollout = next((open_one for open_one in snapshot.rollouts if open_one.adapter == adapter.name), None)
    owner = next((each for each in snapshot.owners if each.adapter == adapter.name), None)
    return {
        "name": adapter.name,
        "kind": adapter.kind,
        "base": adapter.base,
        "stable": adapter.stable,
        "previous_stable": adapter.previous_stable,
        "latest": latest,
        "stable_since": adapter.stable_since,
        "created_at": adapter.created_at,
        "tenant": LOCAL_TENANT if owner is None else owner.tenant,
        "shared": owner is None or owner.is_shared,
        "rollout": rollout and rollout_object(rollout),
    }


def _revision(revision: Revision, snapshot: Snapshot) -> RevisionObject:
    return RevisionObject(
        name=revision.served_name,
        number=revision.number,
        state=revision.state,
        artifact=revision.artifact,
        base=revision.base,
        base_digest=revision.base_digest,
        rank=revision.rank,
        target_modules=list(revision.target_modules),
        alias=revision.alias,
        job_id=revision.job_id,
        owner=revision.owner,
        created_at=revision.created_at,
        provenance=dict(revision.provenance),
        replicas=loaded_on(snapshot).get(revision.served_name, 0),
        slots={
            replica.id: _slot(slot)
            for replica in snapshot.replicas
            for slot in replica.slots
            if slot.served_name == revision.served_name
        },
    )


def _slot(slot: Slot) -> SlotObject:
    proof = None if slot.proof is None else ProofObject.model_validate(slot.proof)
    return SlotObject(state=slot.state, reason=slot.reason, message=slot.message, proof=proof)
