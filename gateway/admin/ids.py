"""`/admin/ids`: whole ids by their beginnings, for people who type the short ids of tables."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from gateway.deps import CallerDep, GatewayDep, KnownQuery
from gateway.objects.lists import FoundId, ObjectList
from registry.keys import Scope
from registry.wording.id_prefixes import OF_TENANTS, IdKind

router = APIRouter(prefix="/admin/ids", dependencies=[KnownQuery], tags=["operating"])


@router.get("")
async def find_ids(
    kind: IdKind,
    prefix: Annotated[str, Query(min_length=1, max_length=100)],
    gateway: GatewayDep,
    caller: CallerDep,
) -> ObjectList[FoundId]:
    """List what begins with *prefix*, newest first, at most 20; a key without the scope admin finds its tenant's."""
    if kind not in OF_TENANTS:
        gateway.keyring.check(caller, Scope.ADMIN)
    elif kind is not IdKind.BATCH:
        gateway.keyring.check(caller, Scope.TRAINING, Scope.ADMIN)
    found = await gateway.ask(gateway.registry.ids.find, kind, prefix, caller.sees)
    return ObjectList(data=[FoundId(id=each) for each in found])
