"""Keys as JSON: the body that asks for a key, and the objects that show one."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt

from gateway.objects.keys import IssuedKeyObject, KeyObject
from gateway.openai.types import Body, TenantName
from registry.keys import IssuedKey, Key, KeyDraft, KeyLimits, Scope
from registry.states import Priority


class CreateKey(Body):
    """Body of `POST /admin/keys`."""

    name: TenantName
    scopes: Annotated[frozenset[Scope], Field(min_length=1)] | None = None
    """None opens everything for the first key, and inference for every later key."""
    owner: Annotated[str, Field(max_length=256)] = ""
    tenant: TenantName | None = None
    """Whose files, jobs and adapters the key works on; None for a tenant of the key's own name."""
    models: (
        Annotated[frozenset[Annotated[str, Field(min_length=1, max_length=256)]], Field(min_length=1, max_length=1000)]
        | None
    ) = None
    requests_per_minute: PositiveInt | None = None
    tokens_per_minute: PositiveInt | None = None
    concurrent_requests: PositiveInt | None = None
    priority: Priority = Priority.NORMAL

    def draft(self, *, is_first: bool) -> KeyDraft:
        """Return the key that the body asks for."""
        return KeyDraft(
            name=self.name,
            scopes=self.scopes or (frozenset(Scope) if is_first else frozenset({Scope.INFERENCE})),
            owner=self.owner,
            tenant=self.tenant or "",
            models=self.models,
            limits=KeyLimits(
                requests_per_minute=self.requests_per_minute,
                tokens_per_minute=self.tokens_per_minute,
                concurrent_requests=self.concurrent_requests,
            ),
            priority=self.priority,
        )


def key_object(key: Key) -> KeyObject:
    """Return the JSON object of a key, without its secret and without the hash."""
    return KeyObject.model_validate(_fields_of(key))


def issued_object(issued: IssuedKey) -> IssuedKeyObject:
    """Return the JSON object of a new key, this once with its secret, under `key`."""
    return IssuedKeyObject.model_validate({**_fields_of(issued.key), "key": issued.secret})


def _fields_of(key: Key) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "owner": key.owner,
        "tenant": key.tenant or key.name,
        "hint": f"sk-lorry-...{key.hint}",
        "scopes": sorted(key.scopes),
        "models": None if key.models is None else sorted(key.models),
        "requests_per_minute": key.limits.requests_per_minute,
        "tokens_per_minute": key.limits.tokens_per_minute,
        "concurrent_requests": key.limits.concurrent_requests,
        "priority": key.priority,
        "actor": key.actor,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
    }
