"""Base models as API objects, for `/admin/bases` and for `lorry models --home`."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.objects.bases import BaseModelObject, BaseModelOrigin, RemovedBaseModel
from gateway.routing.route_table import loaded_on, paths_on
from registry.database import Registry, Snapshot
from registry.publishing.checkpoints import delete_checkpoint
from registry.pulled.pulled_model import PulledModel, pulled_model
from registry.pulled.pulled_models import all_pulled, remove_pulled
from registry.types import Base


def base_objects(registry: Registry) -> list[BaseModelObject]:
    """Return every base model with its parent or its hub, its replicas and its adapters."""
    snapshot = registry.snapshot()
    pulled = {base.name: model for base, model in all_pulled(registry)}
    return [BaseModelObject.model_validate(_fields(base, snapshot, pulled.get(base.name))) for base in snapshot.bases]


def base_origin(registry: Registry, name: str) -> BaseModelOrigin:
    """Return one base model with what made it. Raises `NotFound`."""
    base = registry.bases.get(name)
    fields = _fields(base, registry.snapshot(), pulled_model(base.provenance))
    return BaseModelOrigin.model_validate({**fields, "provenance": dict(base.provenance)})


def remove_base(registry: Registry, name: str, actor: str, pools: Mapping[str, str]) -> RemovedBaseModel:
    """Delete a checkpoint or a pulled model with its files. *pools* maps the pools of the settings to their bases.

    `NotFound`; `Conflict` while anything uses it, and for a folder that was entered.
    """
    base = registry.bases.get(name)
    model = pulled_model(base.provenance)
    if model is None:
        delete_checkpoint(registry, name, actor)
    else:
        names = (base.name, model.id, model.pinned)
        users = [f"pool {pool} of the settings" for pool, asked in pools.items() if asked in names]
        remove_pulled(registry, name, actor, users)
    return RemovedBaseModel(name=name)


def _fields(base: Base, snapshot: Snapshot, model: PulledModel | None) -> dict[str, object]:
    """Return the fields of a `BaseModelObject`."""
    owner = next((each for each in snapshot.owners if each.adapter == base.name), None)
    return {
        "name": base.name,
        "digest": base.digest,
        "path": base.path,
        "licence": base.licence,
        "hub": None if model is None else _hub_origin(model),
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


def _hub_origin(model: PulledModel) -> dict[str, object]:
    return {
        "hub": model.hub,
        "id": model.id,
        "commit": model.commit,
        "asked_revision": model.asked_revision,
        "pulled_by": model.pulled_by,
        "pulled_at": model.pulled_at,
    }
