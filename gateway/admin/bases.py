"""`/admin/bases`: list and show base models, remove one that a job made or that was pulled."""

from __future__ import annotations

from fastapi import APIRouter

from gateway.deps import ActorDep, GatewayDep
from gateway.objects.bases import BaseModelObject, BaseModelOrigin, RemovedBaseModel
from gateway.objects.lists import ObjectList
from gateway.pools.base_objects import base_objects, base_origin, remove_base

router = APIRouter(prefix="/admin/bases", tags=["bases"])


@router.get("")
async def list_bases(gateway: GatewayDep) -> ObjectList[BaseModelObject]:
    """List every base model with its parent or its hub, its replicas and its adapters."""
    return ObjectList(data=await gateway.ask(base_objects, gateway.registry))


@router.get("/{name:path}")
async def show_base(name: str, gateway: GatewayDep) -> BaseModelOrigin:
    """Show one base model with what made it."""
    return await gateway.ask(base_origin, gateway.registry, name)


@router.delete("/{name:path}")
async def remove_model(name: str, gateway: GatewayDep, actor: ActorDep) -> RemovedBaseModel:
    """Delete a checkpoint or a pulled model with its weights; 409 while anything uses it, and for an entered folder."""
    removed = await gateway.ask(remove_base, gateway.registry, name, actor, {})
    await gateway.feed.refresh()
    return removed
