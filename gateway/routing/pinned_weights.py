"""The weights behind a name, as the registry has them now."""

from __future__ import annotations

from registry.database import Registry
from registry.errors import NotFound
from registry.evaluations.evaluation import PinnedModel
from registry.states import RevisionState


def pin(registry: Registry, name: str) -> PinnedModel:
    """Return the weights that *name* stands for now: of a base model, a revision, a step of a job, or by an alias.

    The name of an adapter stands for its stable revision. Raises `NotFound` where nothing answers to the name.
    """
    for base in registry.bases.list():
        if name in (base.name, base.alias):
            return PinnedModel(served_name=base.name, digest=base.digest, base=base.name, base_digest=base.digest)
    adapter = next((each for each in registry.adapters.list() if each.name == name), None)
    if adapter is not None and adapter.stable is None:
        raise NotFound(f"adapter {name!r} has no stable revision yet")
    asked = name if adapter is None else f"{name}@{adapter.stable}"
    found = registry.checkpoints.find(asked) or registry.adapters.named(asked)
    if found.state is not RevisionState.READY:
        raise NotFound(f"{found.served_name} is {found.state}")
    return PinnedModel(
        served_name=found.served_name,
        digest=found.artifact,
        base=found.base,
        base_digest=found.base_digest,
        adapter=found.adapter,
    )


def why_changed(registry: Registry, model: PinnedModel) -> str | None:
    """Return how the weights behind a served name differ from *model*; None while they are the same."""
    try:
        now = pin(registry, model.served_name)
        base = registry.bases.get(model.base)
    except NotFound as exc:
        return f"{model.served_name} is not served any more: {exc}"
    if now.digest != model.digest:
        return f"{model.served_name} has other weights now: {now.digest[:12]}, and had {model.digest[:12]}"
    if base.digest != model.base_digest:
        return f"the base model {model.base} has other weights now: {base.digest[:12]}"
    return None
