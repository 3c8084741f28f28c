"""API keys as they are shown; the secret only once."""

from __future__ import annotations

from typing import Literal

from gateway.objects.lists import ApiObject
from registry.states import Priority


class KeyObject(ApiObject):
    """An API key without its secret."""

    object: Literal["key"] = "key"
    id: str
    name: str
    owner: str
    tenant: str
    """Whose files, jobs and adapters the key works on."""
    hint: str
    """The end of the secret, to tell keys apart."""
    scopes: list[Literal["admin", "inference", "metrics", "training"]]
    models: list[str] | None
    """Names that the key may use; None for all."""
    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrent_requests: int | None
    priority: Priority
    actor: str
    """Who made the key."""
    created_at: float
    revoked_at: float | None
    last_used_at: float | None


class IssuedKeyObject(KeyObject):
    """A new key with its secret, which no other answer contains."""

    key: str
