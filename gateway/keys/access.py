"""Which models a caller may use, and which names its errors may list: those of its tenant, and what is shared."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Final

from gateway.errors import InvalidRequest, JudgeRequired, ModelNotAllowed, ModelNotFound, NothingStable
from gateway.keys.caller import Caller, names_of
from gateway.routing.routing import RouteTable, resolve
from registry.database import Registry
from registry.errors import NotFound
from registry.rollouts.rollout import RolloutPlan
from registry.states import RevisionState
from registry.types import Base, Revision

_MOST_LISTED: Final = 50
_MOST_COMPARED: Final = 200
"""How many names, those beside an unknown one in the alphabet, are compared with it."""
_LONGEST_SHOWN: Final = 128
"""Characters of an unknown name that its error repeats; a longer name is not compared with those that there are."""


def check_model(caller: Caller, table: RouteTable, model: str) -> None:
    """Raise `ModelNotAllowed` or `ModelNotFound` unless *caller* may use the *model*, should it exist.

    A model of another tenant is answered like one that does not exist. A key that is for some models gets the same
    answer for every other name.
    """
    names = names_of(model, table.aliases)
    if is_open(caller, names, table.private, table.shared):
        return
    if caller.models is None:
        raise unknown_model(caller, table, model)
    listed = ", ".join(sorted(caller.models))
    raise ModelNotAllowed(
        f"the key {caller.name!r} is not for the model {shown(model)!r}; it is for {listed}", param="model"
    )


def is_open(
    caller: Caller, names: Sequence[str], private: Mapping[str, str], shared: Mapping[str, frozenset[str]]
) -> bool:
    """Whether *caller* may use the model of *names* (see `names_of`): as its own, or by a permission of its owner."""
    if caller.may_use(names, private.get(names[-1])):
        return True
    return caller.models is None and caller.tenant in shared.get(names[1], ())


def own_model(registry: Registry, caller: Caller, name: str) -> Revision:
    """Return the ready revision or checkpoint of this name (served name or alias) that belongs to *caller*.

    Raises `ModelNotAllowed` for a model of others that the caller may use, else `NotFound`.
    """
    found: Revision | None = registry.checkpoints.find(name)
    if found is None:
        found = registry.adapters.named(name)
    if found.state is not RevisionState.READY:
        raise NotFound(f"there is no fine-tuned model {shown(name)!r}")
    check_own(registry, caller, name, (found.served_name, found.adapter))
    return found


def own_unless_base(registry: Registry, caller: Caller, name: str) -> Revision:
    """Return `own_model` of a *name* that is no base model's; its `NotFound` names where base models are listed."""
    try:
        return own_model(registry, caller, name)
    except NotFound as exc:
        if "@" in name:
            raise
        raise NotFound(f"{exc}; base models and checkpoints are in `lorry models list`") from exc


def own_name(registry: Registry, caller: Caller, name: str) -> str:
    """Return the served name of the caller's revision, checkpoint or whole model of this name; as `own_model`."""
    whole = whole_model(registry, name)
    if whole is None:
        return own_model(registry, caller, name).served_name
    check_own(registry, caller, name, (whole.name, whole.name))
    return whole.name


def whole_model(registry: Registry, name: str) -> Base | None:
    """Return the whole model of this name or alias that a job made."""
    made = (each for each in registry.bases.list() if each.is_checkpoint)
    return next((each for each in made if name in (each.name, each.alias)), None)


def check_own(registry: Registry, caller: Caller, name: str, known_as: tuple[str, str]) -> None:
    """Raise `ModelNotAllowed` or `NotFound` unless the model *name* is the caller's.

    *known_as* are its served name and the name that it is owned by.
    """
    served_name, series = known_as
    owner = registry.owners.get(series)
    if owner is None:
        raise NotFound(f"there is no fine-tuned model {shown(name)!r}")
    if caller.is_admin or owner.tenant == caller.tenant:
        return
    tenants = {each.project for each in registry.permissions.list(served_name)}
    private = {} if owner.is_shared else {series: owner.tenant}
    if is_open(caller, (name, *known_as), private, {served_name: frozenset(tenants)}):
        raise ModelNotAllowed(f"the model {shown(name)!r} belongs to another tenant", param="model")
    raise NotFound(f"there is no fine-tuned model {shown(name)!r}")


def visible_names(caller: Caller, table: RouteTable) -> list[str]:
    """Return the base models, adapters and revisions that *caller* may use, sorted."""
    private = table.private
    every = {*table.bases, *table.routes, *table.pinned}
    if caller.models is None and (caller.is_admin or not private):
        return sorted(every)
    return sorted(name for name in every if is_open(caller, names_of(name, {}), private, table.shared))


def unknown_model(caller: Caller, table: RouteTable, model: str) -> ModelNotFound:
    """Return the error for a model that does not exist for *caller*; it lists what the caller may use."""
    names = visible_names(caller, table)
    # Of thousands of names the comparison takes tenths of a second, in which nobody else is answered.
    at = bisect(names, model)
    near = names[max(0, at - _MOST_COMPARED // 2) : at + _MOST_COMPARED // 2]
    close = get_close_matches(model, near, n=1) if len(model) <= _LONGEST_SHOWN else []
    hint = f" Did you mean {close[0]!r}?" if close else ""
    listed = ", ".join(names[:_MOST_LISTED]) or "none yet"
    return ModelNotFound(f"The model {shown(model)!r} does not exist.{hint} Models here: {listed}.")


def check_judge(caller: Caller, table: RouteTable, judge: str | None) -> None:
    """Raise `InvalidRequest` if a plan names a *judge* that does not exist or that *caller* may not use."""
    if judge is None:
        return
    try:
        check_model(caller, table, judge)
        resolve(table, judge, sticky_key="")
    except ModelNotFound:
        message = str(unknown_model(caller, table, judge))
    except (ModelNotAllowed, NothingStable) as exc:
        message = str(exc)
    else:
        return
    raise InvalidRequest(f"shadow_judge: {message}", param="shadow_judge")


def check_trainable(registry: Registry, caller: Caller, adapter: str) -> None:
    """Raise `ModelNotAllowed` or `NameTaken` unless *caller* may add a revision to *adapter*, or make it."""
    if caller.models is not None and adapter not in caller.models:
        listed = ", ".join(sorted(caller.models))
        raise ModelNotAllowed(
            f"the key {caller.name!r} is not for the model {shown(adapter)!r}; it is for {listed}", param="model"
        )
    registry.owners.check(adapter, caller.claim_on(adapter))


def check_plan(caller: Caller, plan: RolloutPlan | None) -> None:
    """Raise `JudgeRequired` for a rollout without a judge, unless *caller* is an admin."""
    if plan is not None and plan.guardrails is None and not caller.is_admin:
        raise JudgeRequired(
            f"the key {caller.name!r} may start rollouts with a judge only: leave judge=false out, or use an admin key",
            param="rollout.judge",
        )


def shown(name: str) -> str:
    """Return *name* as an error repeats it: cut, as its length is the client's choice."""
    return name if len(name) <= _LONGEST_SHOWN else f"{name[:_LONGEST_SHOWN]}..."
