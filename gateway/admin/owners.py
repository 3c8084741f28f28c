"""`/admin/adapters/{name}/owner`: the tenant that an adapter belongs to, and whether every key may use it."""

from __future__ import annotations

from typing import Self

from fastapi import APIRouter
from pydantic import model_validator

from gateway.deps import ActorDep, GatewayDep
from gateway.objects.adapters import AdapterOwnerObject
from gateway.openai.types import Body, TenantName

router = APIRouter(prefix="/admin/adapters", tags=["adapters"])


class ChangeOwner(Body):
    """Body of `PUT /admin/adapters/{name}/owner`: one field or both."""

    tenant: TenantName | None = None
    shared: bool | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if self.tenant is None and self.shared is None:
            raise ValueError("give tenant, shared, or both")
        return self


@router.put("/{name}/owner")
async def change_owner(name: str, body: ChangeOwner, gateway: GatewayDep, actor: ActorDep) -> AdapterOwnerObject:
    """Give the adapter to another tenant, open it to every key, or close it; 404 if nobody has claimed the name."""
    changed = await gateway.ask(
        gateway.registry.owners.change, name, tenant=body.tenant, is_shared=body.shared, actor=actor
    )
    await gateway.feed.refresh()
    return AdapterOwnerObject(adapter=changed.adapter, tenant=changed.tenant, shared=changed.is_shared)
