"""The sender of a request and what it may do: of a key, anybody where no key exists, or this process itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.errors import InvalidRequest
from registry.jobs.adapter_owners import Claim
from registry.keys import Key, KeyLimits, Scope
from registry.states import Priority
from registry.types import LOCAL_TENANT

_ORDER: Final = (Priority.HIGH, Priority.NORMAL, Priority.LOW)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The sender of a request."""

    key_id: str
    """Id of the key, empty where no key exists."""
    name: str
    tenant: str
    """Whose files, jobs, adapters and answers the caller works on."""
    scopes: frozenset[Scope]
    models: frozenset[str] | None
    """Names of models that the caller may use; None means all that its tenant may use."""
    priority: Priority
    limits: KeyLimits
    shares_adapters: bool = False
    """Whether the adapters that the caller makes are open to every key."""
    is_limited: bool = field(init=False)
    """Whether the key has a limit; computed once, as every request asks for it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_limited", not self.limits.are_none)

    @property
    def is_admin(self) -> bool:
        """Whether the caller works on the files, jobs and adapters of every tenant."""
        return Scope.ADMIN in self.scopes

    @property
    def sees(self) -> str | None:
        """The tenant whose files and jobs the caller sees; None for those of every tenant."""
        return None if self.is_admin else self.tenant

    def claim_on(self, adapter: str) -> Claim:
        """Return what the caller may do with *adapter* if it trains or publishes it."""
        is_named = self.models is not None and adapter in self.models
        return Claim(tenant=self.tenant, shares=self.shares_adapters, may_take_any=self.is_admin or is_named)

    def may_use(self, names: Collection[str], tenant: str | None) -> bool:
        """Whether the caller may use a model by one of *names*; *tenant* owns it, None if every key may use it."""
        if self.models is not None:
            return not self.models.isdisjoint(names)
        return tenant is None or tenant == self.tenant or self.is_admin


ANYBODY: Final = Caller(
    key_id="",
    name="local",
    tenant=LOCAL_TENANT,
    scopes=frozenset(Scope),
    models=None,
    priority=Priority.NORMAL,
    limits=KeyLimits(),
    shares_adapters=True,
)
"""Every caller while no key was ever created, when only loopback is served."""


OURSELVES: Final = Caller(
    key_id="",
    name="lorry",
    tenant=LOCAL_TENANT,
    scopes=frozenset({Scope.INFERENCE, Scope.ADMIN}),
    models=None,
    priority=Priority.LOW,
    limits=KeyLimits(),
)
"""This process where it asks for a gate; no request from outside can be of this caller."""


def caller_with(key: Key) -> Caller:
    """Return the caller that sends *key*."""
    return Caller(
        key_id=key.id,
        name=key.name,
        tenant=key.tenant or key.name,
        scopes=key.scopes,
        models=key.models,
        priority=key.priority,
        limits=key.limits,
        # What an admin makes is for everybody, unless the admin works for one tenant.
        shares_adapters=Scope.ADMIN in key.scopes and not key.tenant,
    )


def credential_of(authorization: bytes | None, x_api_key: bytes | None, api_key: bytes | None) -> bytes:
    """Return the argument of `caller_of`: the header `authorization`, else `x-api-key`, else `api-key`.

    Anthropic's clients send the second, Azure's the third.
    """
    if authorization is not None:
        return authorization
    key = api_key if x_api_key is None else x_api_key
    return b"" if key is None else b"Bearer " + key


def names_of(model: str, aliases: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names that allow the *model* of a request: the model itself, its served name, its adapter.

    *aliases* come from the route table, `ft:...` -> served name.
    """
    served_name = aliases.get(model, model)
    return model, served_name, served_name.partition("@")[0]


def priority_of(caller: Caller, asked: str | None) -> Priority:
    """Return the lower of the caller's priority and *asked*, the header `x-lorry-priority`. Raises `InvalidRequest`."""
    if asked is None:
        return caller.priority
    if asked not in _ORDER:
        raise InvalidRequest(
            f"x-lorry-priority must be {', '.join(_ORDER)}; got {asked[:64]!r}", param="x-lorry-priority"
        )
    return max(caller.priority, Priority(asked), key=_ORDER.index)
