"""`/admin/adapters/{name}/forced`: conversations that an operator holds on one side of the adapter's rollouts."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from gateway.deps import ActorDep, GatewayDep
from gateway.objects.evidence import ForcedSideObject, ReleasedSide
from gateway.objects.lists import ObjectList
from gateway.openai.types import Body
from registry.rollouts.forced import ForcedSide
from registry.rollouts.tally import Side

router = APIRouter(prefix="/admin/adapters", tags=["rollouts"])


class ForceSide(Body):
    """Body of `PUT /admin/adapters/{name}/forced`."""

    sticky_key: Annotated[str, Field(min_length=1, max_length=512)]
    side: Literal["canary", "stable"]


@router.get("/{name}/forced")
async def list_forced(name: str, gateway: GatewayDep) -> ObjectList[ForcedSideObject]:
    """List the sticky keys that are held, and the side of each."""
    found = await gateway.ask(gateway.registry.forced_sides.list, name)
    return ObjectList(data=[_forced(forced) for forced in found])


@router.put("/{name}/forced")
async def force_side(name: str, body: ForceSide, gateway: GatewayDep, actor: ActorDep) -> ForcedSideObject:
    """Send requests with this sticky key to one side of every rollout until the key is released; do not count them."""
    forced = await gateway.ask(gateway.registry.forced_sides.put, name, body.sticky_key, Side(body.side), actor)
    await gateway.feed.refresh()
    return _forced(forced)


@router.delete("/{name}/forced")
async def release_side(
    name: str, sticky_key: Annotated[str, Query(min_length=1)], gateway: GatewayDep, actor: ActorDep
) -> ReleasedSide:
    """Choose the side by the hash of the key again; 404 if the key was not held."""
    await gateway.ask(gateway.registry.forced_sides.delete, name, sticky_key, actor)
    await gateway.feed.refresh()
    return ReleasedSide(sticky_key=sticky_key)


def _forced(forced: ForcedSide) -> ForcedSideObject:
    return ForcedSideObject(
        adapter=forced.adapter,
        sticky_key=forced.sticky_key,
        side=forced.side,
        actor=forced.actor,
        created_at=forced.created_at,
    )
