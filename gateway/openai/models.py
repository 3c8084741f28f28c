"""`/v1/models`: base models, adapters and pinned revisions."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from gateway.deps import CallerDep, Gateway, GatewayDep
from gateway.errors import ModelNotFound
from gateway.keys.auth import Caller, names_of
from gateway.routing.route_table import endpoint_of, is_ready
from registry.database import Snapshot

router = APIRouter()


@router.get("/v1/models")
async def list_models(gateway: GatewayDep, caller: CallerDep) -> dict[str, Any]:
    """Every name that a request of the caller may carry in `model`."""
    return {"object": "list", "data": await _models_for(gateway, caller)}


@router.get("/v1/models/{name:path}")
async def get_model(name: str, gateway: GatewayDep, caller: CallerDep) -> dict[str, Any]:
    """One of them; 404 for another name."""
    found = {model["id"]: model for model in await _models_for(gateway, caller)}
    if name not in found:
        raise ModelNotFound(
            f"The model {name!r} does not exist. Models here: {', '.join(sorted(found)) or 'none yet'}."
        )
    return found[name]


async def _models_for(gateway: Gateway, caller: Caller) -> list[dict[str, Any]]:
    snapshot = await gateway.ask(gateway.registry.snapshot)
    models = models_of(snapshot, gateway.registry.organisation)
    if caller.models is None:
        return models
    aliases = {revision.alias: revision.served_name for revision in snapshot.revisions if revision.alias}
    return [model for model in models if not caller.models.isdisjoint(names_of(model["id"], aliases))]


def models_of(snapshot: Snapshot, organisation: str) -> list[dict[str, Any]]:
    """OpenAI model objects; `lorry` tells what each is (`base`, `adapter`, `revision`) and what it stands on."""
    loaded = loaded_on(snapshot)
    models = [
        _model(
            base.name, base.created_at, organisation, {"kind": "base", "digest": base.digest, "licence": base.licence}
        )
        for base in snapshot.bases
    ]
    for adapter in snapshot.adapters:
        stable = None if adapter.stable is None else f"{adapter.name}@{adapter.stable}"
        about: dict[str, Any] = {"kind": "adapter", "base": adapter.base, "stable": stable}
        models.append(_model(adapter.name, adapter.created_at, organisation, about))
    for revision in snapshot.revisions:
        about = {"kind": "revision", "base": revision.base, "alias": revision.alias}
        about["replicas"] = loaded.get(revision.served_name, 0)
        models.append(_model(revision.served_name, revision.created_at, revision.owner, about))
        if revision.alias:
            alias_of = {"kind": "alias", "base": revision.base, "revision": revision.served_name}
            models.append(_model(revision.alias, revision.created_at, revision.owner, alias_of))
    return models


def loaded_on(snapshot: Snapshot) -> dict[str, int]:
    """Served name -> how many ready replicas have it loaded."""
    counts: dict[str, int] = {}
    for replica in filter(is_ready, snapshot.replicas):
        for served_name in endpoint_of(replica).served_names:
            counts[served_name] = counts.get(served_name, 0) + 1
    return counts


def _model(name: str, created_at: float, owner: str, about: dict[str, Any]) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": int(created_at), "owned_by": owner, "lorry": about}
