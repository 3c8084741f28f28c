"""Which revision answers a request. Pure: a table in, a served name out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from hashlib import sha256
from typing import Any

import orjson

from gateway.errors import ModelNotFound, NothingStable
from registry.database import Snapshot
from registry.types import Replica, ReplicaState, SlotState


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where the conversations of one adapter go; revisions are served names."""

    adapter: str
    base: str
    stable: str | None
    canary: str | None = None
    canary_weight: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A ready replica and the served names that it answers to, its base model's among them."""

    replica: str
    url: str
    base: str
    engine: str
    """Kind of engine behind it, which decides how a request names its adapter."""
    served_names: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTable:
    """Everything that a gateway needs to route, derived from one reading of the registry."""

    bases: frozenset[str] = frozenset()
    routes: Mapping[str, Route] = field(default_factory=dict)
    pinned: Mapping[str, str] = field(default_factory=dict)
    """Served name of every ready revision -> its base model."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """`ft:...` -> served name."""
    endpoints: tuple[Endpoint, ...] = ()

    def endpoints_of(self, served_name: str) -> list[Endpoint]:
        """The ready replicas that answer to *served_name*."""
        return [endpoint for endpoint in self.endpoints if served_name in endpoint.served_names]


def build_table(snapshot: Snapshot) -> RouteTable:
    """The routes that follow from adapters, open rollouts and living replicas."""
    rollouts = {rollout.adapter: rollout for rollout in snapshot.rollouts}
    routes = {}
    for adapter in snapshot.adapters:
        rollout = rollouts.get(adapter.name)
        weight = rollout.canary_weight if rollout else 0
        routes[adapter.name] = Route(
            adapter=adapter.name,
            base=adapter.base,
            stable=None if adapter.stable is None else f"{adapter.name}@{adapter.stable}",
            canary=f"{adapter.name}@{rollout.canary}" if rollout and weight else None,
            canary_weight=weight,
        )
    return RouteTable(
        bases=frozenset(base.name for base in snapshot.bases),
        routes=routes,
        pinned={revision.served_name: revision.base for revision in snapshot.revisions},
        aliases={revision.alias: revision.served_name for revision in snapshot.revisions if revision.alias},
        endpoints=tuple(_endpoint(replica) for replica in snapshot.replicas if replica.state is ReplicaState.READY),
    )


def _endpoint(replica: Replica) -> Endpoint:
    ready = {slot.served_name for slot in replica.slots if slot.state is SlotState.READY}
    return Endpoint(
        replica=replica.id,
        url=replica.url,
        base=replica.base,
        engine=replica.engine,
        served_names=frozenset(ready | {replica.base}),
    )


def resolve(table: RouteTable, name: str, sticky_key: str) -> str:
    """The served name that answers a request for *name*; `ModelNotFound` lists what there is."""
    name = table.aliases.get(name, name)
    if name in table.bases or name in table.pinned:
        return name
    route = table.routes.get(name)
    if route is None:
        raise ModelNotFound(_unknown_name(table, name))
    return choose_revision(route, sticky_key)


def choose_revision(route: Route, sticky_key: str) -> str:
    """Same key, same answer; raising the weight only ever adds keys to the canary."""
    if route.stable is None:
        raise NothingStable(
            f"adapter {route.adapter!r} has no stable revision yet: its first one is still loading; "
            f"`lorry adapters show {route.adapter}` says where it stands"
        )
    if route.canary is None:
        return route.stable
    digest = sha256(f"{route.adapter}/{route.canary}/{sticky_key}".encode()).digest()
    bucket = int.from_bytes(digest[:8], "big") % 100
    return route.canary if bucket < route.canary_weight else route.stable


def _unknown_name(table: RouteTable, name: str) -> str:
    names = sorted({*table.bases, *table.routes, *table.pinned})
    close = get_close_matches(name, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    shown = ", ".join(names[:50]) or "none yet"
    return f"The model {name!r} does not exist.{hint} Models here: {shown}."


def sticky_key(body: Mapping[str, Any], session_id: str | None, credential: str) -> str:
    """What keeps a conversation on its side of a rollout.

    *session_id* (header `x-session-id`), else the body's `user`, `safety_identifier` or `prompt_cache_key`, else a
    hash of the caller's *credential* and the first user message (or the prompt), which later turns repeat.
    """
    named = session_id or body.get("user") or body.get("safety_identifier") or body.get("prompt_cache_key")
    if isinstance(named, str) and named:
        return named
    opening = _opening(body)
    return sha256(credential.encode() + b"\0" + orjson.dumps(opening)).hexdigest()


def _opening(body: Mapping[str, Any]) -> object:
    messages = body.get("messages")
    if not isinstance(messages, list):
        return body.get("prompt")
    for message in messages:
        if isinstance(message, dict) and message.get("role") == "user":
            return message.get("content")
    return messages
