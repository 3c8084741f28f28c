"""`/admin/bases`: list and show base models, delete a checkpoint that a job made."""

from __future__ import annotations

from fastapi import APIRouter

from gateway.deps import ActorDep, GatewayDep
from gateway.objects.bases import BaseModelObject, BaseModelOrigin, RemovedBaseModel
from gateway.objects.lists import ObjectList
from gateway.openai.models import loaded_on, paths_on
from registry.database import Snapshot
from registry.publishing.checkpoints import delete_checkpoint
from registry.types import Base

router = APIRouter(prefix="/admin/bases", tags=["bases"])


@router.get("")
async def list_bases(gateway: GatewayDep) -> ObjectList[BaseModelObject]:
    """List every base model with its parent, its replicas and its adapters."""
    snapshot = await gateway.ask(gateway.registry.snapshot)
    return ObjectList(data=[BaseModelObject.model_validate(_shown(base, snapshot)) for base in snapshot.bases])


@router.get("/{name}")
async def show_base(name: str, gateway: GatewayDep) -> BaseModelOrigin:
    """Show one base model with what made it."""

    def read() -> BaseModelOrigin:
        base = gateway.registry.bases.get(name)
        fields = {**_shown(base, gateway.registry.snapshot()), "provenance": dict(base.provenance)}
        return BaseModelOrigin.model_validate(fields)

    return await gateway.ask(read)


@router.delete("/{name}")
async def remove_checkpoint(name: str, gateway: GatewayDep, actor: ActorDep) -> RemovedBaseModel:
    """Delete a checkpoint and its weights; 409 while anything uses it, and for a folder that was entered."""
    await gateway.ask(delete_checkpoint, gateway.registry, name, actor)
    await gateway.feed.refresh()
    return RemovedBaseModel(name=name)


def _shown(base: Base, snapshot: Snapshot) -> dict[str, object]:
    """Return the fields of a `BaseModelObject`."""
    owner = next((each for each in snapshot.owners if each.adapter == base.name), None)
    return {
        "name": base.name,
        "digest": base.digest,
        "path": base.path,
        "licence": base.licence,
        "parent": base.parent,
        "job_id": base.job_id,
        "step": base.step,
        "alias": base.alias,
        "expires_at": base.expires_at,
        "owner": base.owner,
        "tenant": owner and owner.tenant,
        "shared": owner is None or owner.is_shared,
        "created_at": base.created_at,
        "replicas": loaded_on(snapshot).get(base.name, 0),
        "paths": paths_on(snapshot).get(base.name, []),
        "adapters": [adapter.name for adapter in snapshot.adapters if adapter.base == base.name],
    }
