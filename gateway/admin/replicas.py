"""`/admin/replicas`: the inference servers as they last described themselves."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from gateway.deps import GatewayDep

router = APIRouter(prefix="/admin/replicas")


@router.get("")
async def list_replicas(gateway: GatewayDep) -> dict[str, Any]:
    """Every replica that is not gone, with its slots."""
    snapshot = await gateway.ask(gateway.registry.snapshot)
    return {"object": "list", "data": [asdict(replica) for replica in snapshot.replicas]}
