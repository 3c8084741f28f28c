"""The reward models that graders name, found in the registry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.errors import InvalidRequest
from gateway.keys.caller import Caller
from gateway.routing.route_table import private_adapters
from registry.contracts.graders.grader_spec import GraderSpec
from registry.database import Registry
from registry.errors import NotFound
from registry.states import AdapterKind, RevisionState
from registry.types import Revision


def find_reward_models(
    graders: Iterable[GraderSpec], registry: Registry, caller: Caller, place: str, base: str | None = None
) -> Mapping[str, str]:
    """Return the digest of every reward model that *graders* name; `InvalidRequest` for one that cannot score.

    *place* is the path of the grader in the request, *base* the base model that a job trains, which its reward models
    must stand on too, so that one tokenizer and one template hold for both.
    """
    names = sorted({name for grader in graders for name in grader.reward_models()})
    return {name: _find(name, registry, caller, f"{place}.model", base) for name in names}


def _find(name: str, registry: Registry, caller: Caller, param: str, base: str | None) -> str:
    try:
        revision, kind = _named(name, registry)
        private = private_adapters(registry.snapshot().owners)
        if not caller.may_use((revision.adapter, name), private.get(revision.adapter)):
            raise NotFound(name)
    except NotFound as exc:
        raise InvalidRequest(f"{param}: there is no reward model {name[:128]!r}", param=param) from exc
    if kind is not AdapterKind.REWARD or revision.state is not RevisionState.READY:
        what = "is retired" if kind is AdapterKind.REWARD else "answers chats; train one with the method reward"
        raise InvalidRequest(f"{param}: {name} {what}", param=param)
    if base is not None and revision.base != base:
        text = f"{param}: the reward model {name} stands on base model {revision.base}, and the job trains {base}"
        raise InvalidRequest(text, param=param)
    return revision.artifact


def _named(name: str, registry: Registry) -> tuple[Revision, AdapterKind]:
    """Return the revision, or the step of a job, of this name, and its kind. Raises `NotFound`."""
    step = registry.checkpoints.find(name)
    if step is not None:
        return step, step.kind
    revision = registry.adapters.named(name)
    return revision, registry.adapters.get(revision.adapter).kind
