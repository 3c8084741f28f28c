"""`/v1/fine_tuning/checkpoints/{checkpoint}/permissions`: a checkpoint is shared with other tenants, one by one."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from gateway.deps import ActorDep, CallerDep, GatewayDep, KnownQuery
from gateway.errors import InvalidRequest
from gateway.keys.access import own_name
from gateway.objects.lists import ObjectPage, page_of
from gateway.objects.permissions import CheckpointPermissionObject, DeletedPermission
from gateway.openai.types import Body, TenantName
from registry.jobs.checkpoint_permissions import CheckpointPermission

router = APIRouter(
    prefix="/v1/fine_tuning/checkpoints/{checkpoint:path}/permissions", dependencies=[KnownQuery], tags=["fine-tuning"]
)

Limit = Annotated[int, Query(ge=1, le=100)]


class CreatePermissions(Body):
    """Body of `POST .../permissions`."""

    project_ids: Annotated[list[TenantName], Field(min_length=1, max_length=100)]
    """Tenants, which OpenAI calls projects."""


@router.post("")
async def create_permissions(
    checkpoint: str, body: CreatePermissions, gateway: GatewayDep, caller: CallerDep, actor: ActorDep
) -> ObjectPage[CheckpointPermissionObject]:
    """Let the keys of these tenants use the checkpoint; a permission that exists is kept as it is."""
    registry = gateway.registry

    def share() -> list[CheckpointPermission]:
        return registry.permissions.create(own_name(registry, caller, checkpoint), body.project_ids, actor)

    made = await gateway.ask(share)
    await gateway.feed.refresh()
    return page_of([permission_object(each) for each in made], len(made))


@router.get("")
async def list_permissions(  # noqa: PLR0913  its parameters are those of the query
    checkpoint: str,
    gateway: GatewayDep,
    caller: CallerDep,
    project_id: str | None = None,
    after: str | None = None,
    limit: Limit = 10,
    order: Literal["ascending", "descending"] = "descending",
) -> ObjectPage[CheckpointPermissionObject]:
    """List the permissions of the checkpoint, newest first unless asked otherwise."""
    registry = gateway.registry

    def read() -> list[CheckpointPermission]:
        return registry.permissions.list(own_name(registry, caller, checkpoint), project_id)

    found = await gateway.ask(read)
    if order == "descending":
        found.reverse()
    if after is not None:
        ids = [each.id for each in found]
        if after not in ids:
            raise InvalidRequest(f"no permission has the id {after[:64]!r} to continue after", param="after")
        found = found[ids.index(after) + 1 :]
    return page_of([permission_object(each) for each in found[: limit + 1]], limit)


@router.delete("/{permission_id}")
async def delete_permission(
    checkpoint: str, permission_id: str, gateway: GatewayDep, caller: CallerDep, actor: ActorDep
) -> DeletedPermission:
    """Take a permission back; gateways apply this within two `route_refresh_s`."""
    registry = gateway.registry

    def take_back() -> None:
        registry.permissions.delete(own_name(registry, caller, checkpoint), permission_id, actor)

    await gateway.ask(take_back)
    await gateway.feed.refresh()
    return DeletedPermission(id=permission_id)


def permission_object(permission: CheckpointPermission) -> CheckpointPermissionObject:
    """Return OpenAI's `checkpoint.permission` object."""
    return CheckpointPermissionObject(
        id=permission.id, created_at=int(permission.created_at), project_id=permission.project
    )
