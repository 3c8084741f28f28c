"""`/admin/keys`: make, list, revoke."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from gateway.admin.key_types import CreateKey, issued_object, key_object
from gateway.deps import ActorDep, Gateway, GatewayDep
from gateway.keys.keyring import SHARED_AFTER
from gateway.objects.keys import IssuedKeyObject, KeyObject
from gateway.objects.lists import ObjectList
from registry.keys import IssuedKey

router = APIRouter(prefix="/admin/keys", tags=["keys"])


@router.post("", status_code=201)
async def create_key(body: CreateKey, gateway: GatewayDep, actor: ActorDep) -> IssuedKeyObject:
    """Make a key and send its secret, this once; every gateway accepts the key when the answer is sent."""

    def create() -> IssuedKey:
        keys = gateway.registry.keys
        return keys.create(body.draft(is_first=keys.valid().is_keyless), actor)

    issued = await gateway.ask(create)
    await _until_known(gateway)
    return issued_object(issued)


@router.get("")
async def list_keys(gateway: GatewayDep) -> ObjectList[KeyObject]:
    """List every key that was ever made, newest first."""
    found = await gateway.ask(gateway.registry.keys.list)
    return ObjectList(data=[key_object(key) for key in found])


@router.delete("/{key_id}")
async def revoke_key(key_id: str, gateway: GatewayDep, actor: ActorDep) -> KeyObject:
    """Revoke the key (by id or name); no gateway accepts the key when the answer is sent."""
    key = await gateway.ask(gateway.registry.keys.revoke, key_id, actor)
    await _until_known(gateway)
    return key_object(key)


async def _until_known(gateway: Gateway) -> None:
    """Return when every gateway has read the keys anew, unless it cannot."""
    await gateway.keyring.refresh()
    await asyncio.sleep(SHARED_AFTER * gateway.settings.route_refresh_s)
