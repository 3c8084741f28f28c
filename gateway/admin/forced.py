"""`/admin/adapters/{name}/forced`: conversations that an operator holds on one side of the adapter's rollouts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from gateway.deps import ActorDep, GatewayDep
from gateway.openai.types import Body
from registry.rollouts.forced import ForcedSide
from registry.rollouts.tally import Side

router = APIRouter(prefix="/admin/adapters")


class ForceSide(Body):
    """Body of `PUT /admin/adapters/{name}/forced`."""

    sticky_key: Annotated[str, Field(min_length=1, max_length=512)]
    side: Literal["canary", "stable"]


@router.get("/{name}/forced")
async def list_forced(name: str, gateway: GatewayDep) -> dict[str, Any]:
    """The keys that are held, and where."""
    found = await gateway.ask(gateway.registry.forced_sides.list, name)
    return {"object": "list", "data": [_forced(forced) for forced in found]}


@router.put("/{name}/forced")
async def force_side(name: str, body: ForceSide, gateway: GatewayDep, actor: ActorDep) -> dict[str, Any]:
    """Requests with this sticky key go to this side of every rollout until the key is let go; they are not counted."""
    forced = await gateway.ask(gateway.registry.forced_sides.put, name, body.sticky_key, Side(body.side), actor)
    await gateway.feed.refresh()
    return _forced(forced)


@router.delete("/{name}/forced")
async def let_go(
    name: str, sticky_key: Annotated[str, Query(min_length=1)], gateway: GatewayDep, actor: ActorDep
) -> dict[str, Any]:
    """The key goes where its hash says again; 404 if it was not held."""
    await gateway.ask(gateway.registry.forced_sides.delete, name, sticky_key, actor)
    await gateway.feed.refresh()
    return {"object": "forced_side", "sticky_key": sticky_key, "deleted": True}


def _forced(forced: ForcedSide) -> dict[str, Any]:
    return {
        "object": "forced_side",
        "adapter": forced.adapter,
        "sticky_key": forced.sticky_key,
        "side": str(forced.side),
        "actor": forced.actor,
        "created_at": forced.created_at,
    }
