"""`/v1/models`: base models, adapters, pinned revisions and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Header, Request

from gateway.deps import ActorDep, CallerDep, Gateway, GatewayDep
from gateway.errors import ModelNotAllowed, ModelNotFound
from gateway.keys.access import is_open, own_model, own_name, shown, whole_model
from gateway.keys.caller import Caller, names_of
from gateway.keys.not_served import why_no_answer
from gateway.objects.lists import ObjectList
from gateway.objects.models import (
    AdapterFacts,
    AliasFacts,
    AnthropicModel,
    AnthropicModelPage,
    BaseModelFacts,
    CheckpointFacts,
    DeletedModel,
    ModelFacts,
    ModelObject,
    RevisionFacts,
    RewardFacts,
)
from gateway.openai.anthropic_models import anthropic_model, anthropic_page
from gateway.openai.types import whole_seconds
from gateway.routing.route_table import loaded_on, paths_on, private_adapters, served_series, shared_revisions
from registry.database import Registry, Snapshot
from registry.errors import NotFound
from registry.keys import Scope
from registry.publishing.checkpoints import delete_checkpoint
from registry.states import AdapterKind, RevisionState
from registry.types import Base, ServedCheckpoint
from registry.wording.suggestions import did_you_mean

router = APIRouter(tags=["models"])

AnthropicVersion = Annotated[str | None, Header(alias="anthropic-version", description="Asks for Anthropic's form.")]


@router.get("/v1/models")
async def list_models(
    request: Request, gateway: GatewayDep, caller: CallerDep, version: AnthropicVersion = None
) -> ObjectList[ModelObject] | AnthropicModelPage:
    """List every name that a request of the caller may carry in `model`; with `anthropic-version` as Anthropic does."""
    models = await _models_for(gateway, caller)
    return ObjectList(data=models) if version is None else anthropic_page(models, request.query_params)


@router.get("/v1/models/{name:path}")
async def get_model(
    name: str, gateway: GatewayDep, caller: CallerDep, version: AnthropicVersion = None
) -> ModelObject | AnthropicModel:
    """Show one of these models, or a reward model; 404 for another name, which names what that is if it is known."""
    model = await _model_of(gateway, caller, name)
    return model if version is None else anthropic_model(model)


async def _model_of(gateway: Gateway, caller: Caller, name: str) -> ModelObject:
    found = {model.id: model for model in await _models_for(gateway, caller)}
    if name not in found and (reward := await gateway.ask(_reward_model, gateway.registry, caller, name)) is not None:
        return reward
    if name not in found:
        why = await gateway.ask(why_no_answer, gateway.registry, caller, name)
        listed = f"Models here: {', '.join(sorted(found)) or 'none yet'}."
        meant = did_you_mean(name, sorted(found))
        raise ModelNotFound(why or f"The model {shown(name)!r} does not exist{meant or '.'} {listed}")
    return found[name]


@router.delete("/v1/models/{name:path}")
async def delete_model(name: str, gateway: GatewayDep, caller: CallerDep, actor: ActorDep) -> DeletedModel:
    """Retire the revision, reward model or step of this name, or delete the whole model; 409 while something uses it.

    A revision cannot go while others leave it stable or in a rollout, a whole model while a replica serves it.
    """
    gateway.keyring.check(caller, Scope.TRAINING, Scope.ADMIN)
    await _model_of(gateway, caller, name)  # the same 404 for a name that is not there, or not any more
    await gateway.ask(retire_model, gateway.registry, name, caller, actor)
    await gateway.feed.refresh()
    return DeletedModel(id=name)


def retire_model(registry: Registry, name: str, caller: Caller, actor: str) -> None:
    """Retire a model of the caller's, or delete a whole one. Raises `ModelNotAllowed`, `NotServable`, `Conflict`.

    `ModelNotFound` if it just went.
    """
    if whole_model(registry, name) is not None:
        delete_checkpoint(registry, own_name(registry, caller, name), actor)
        return
    try:
        own_model(registry, caller, name)
    except NotFound as exc:
        raise ModelNotAllowed(
            f"the model {shown(name)!r} cannot be deleted: it is a base model or an adapter. Delete the adapter's "
            "revisions, NAME@N or ft:...",
            param="model",
        ) from exc
    if registry.checkpoints.find(name) is not None:
        registry.checkpoints.retire(name, actor)
        return
    revision = registry.adapters.named(name)
    registry.adapters.retire(revision.adapter, revision.number, actor, may_be_last=True)


def _reward_model(registry: Registry, caller: Caller, name: str) -> ModelObject | None:
    """Return the reward model, or the step of one, that has this name and that the caller sees."""
    step = registry.checkpoints.find(name)
    with suppress(NotFound):
        found = step or registry.adapters.named(name)
        owner, kind = registry.owners.get(found.adapter), registry.adapters.get(found.adapter).kind
        tenant = None if owner is None or owner.is_shared else owner.tenant
        is_seen = caller.may_use((found.adapter, name), tenant)
        if kind is AdapterKind.REWARD and found.state is RevisionState.READY and is_seen:
            facts = RewardFacts(
                base=found.base,
                base_digest=found.base_digest,
                revision=found.served_name if step is None else step.revision,
                step=None if step is None else step.step,
                expires_at=whole_seconds(None if step is None else step.expires_at),
            )
            return _model(name, found.created_at, found.owner, facts)
    return None


async def _models_for(gateway: Gateway, caller: Caller) -> list[ModelObject]:
    snapshot = await gateway.ask(gateway.registry.snapshot)
    models = models_of(snapshot, gateway.registry.organisation)
    aliased = (*snapshot.revisions, *snapshot.checkpoints)
    aliases = {each.alias: each.served_name for each in aliased if each.alias}
    aliases |= {base.alias: base.name for base in snapshot.bases if base.alias}
    private, shared = private_adapters(snapshot.owners), shared_revisions(snapshot.permissions)
    return [model for model in models if is_open(caller, names_of(model.id, aliases), private, shared)]


def models_of(snapshot: Snapshot, organisation: str) -> list[ModelObject]:
    """Return all base models, adapters, revisions and checkpoints, in this order; aliases follow their revisions."""
    loaded, paths = loaded_on(snapshot), paths_on(snapshot)
    digests = {base.name: base.digest for base in snapshot.bases}
    models = []
    for base in snapshot.bases:
        models.append(
            _model(base.name, base.created_at, base.owner or organisation, _base(base, paths.get(base.name, [])))
        )
        if base.alias:
            step = _whole_step(base, digests, loaded.get(base.name, 0))
            models.append(_model(base.alias, base.created_at, base.owner, step))
    for adapter in served_series(snapshot):
        stable = None if adapter.stable is None else f"{adapter.name}@{adapter.stable}"
        facts = AdapterFacts(base=adapter.base, base_digest=digests[adapter.base], stable=stable)
        models.append(_model(adapter.name, adapter.created_at, organisation, facts))
    for revision in snapshot.revisions:
        name, owner = revision.served_name, revision.owner
        pinned = RevisionFacts(
            base=revision.base, base_digest=revision.base_digest, alias=revision.alias, replicas=loaded.get(name, 0)
        )
        models.append(_model(name, revision.created_at, owner, pinned))
        if revision.alias:
            alias = AliasFacts(base=revision.base, base_digest=revision.base_digest, revision=name)
            models.append(_model(revision.alias, revision.created_at, owner, alias))
    ready = {revision.served_name for revision in snapshot.revisions}
    for checkpoint in snapshot.checkpoints:
        name = checkpoint.served_name
        if name in ready or checkpoint.is_served:
            facts_of = _checkpoint(checkpoint, loaded.get(name, 0))
            models.append(_model(checkpoint.alias or name, checkpoint.created_at, checkpoint.owner, facts_of))
    return models


def _base(base: Base, paths: list[str]) -> BaseModelFacts:
    return BaseModelFacts(
        digest=base.digest,
        licence=base.licence,
        parent=base.parent,
        job_id=base.job_id,
        step=base.step,
        expires_at=whole_seconds(base.expires_at),
        paths=paths,
    )


def _whole_step(base: Base, digests: Mapping[str, str], replicas: int) -> CheckpointFacts:
    return CheckpointFacts(
        base=base.parent or base.name,
        # A parent may have been deleted; its digest is then in the lineage alone.
        base_digest=digests.get(base.parent or base.name),
        revision=None,
        served_name=base.name,
        step=base.step or 0,
        expires_at=whole_seconds(base.expires_at),
        replicas=replicas,
    )


def _checkpoint(checkpoint: ServedCheckpoint, replicas: int) -> CheckpointFacts:
    return CheckpointFacts(
        base=checkpoint.base,
        base_digest=checkpoint.base_digest,
        revision=checkpoint.revision,
        served_name=checkpoint.served_name,
        step=checkpoint.step,
        expires_at=whole_seconds(checkpoint.expires_at),
        replicas=replicas,
    )


def _model(name: str, created_at: float, owner: str, facts: ModelFacts) -> ModelObject:
    return ModelObject(id=name, created=int(created_at), owned_by=owner, lorry=facts)
