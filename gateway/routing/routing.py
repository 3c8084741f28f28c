"""Which revision and which replicas may answer a request, and what the answer is evidence of. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

import orjson

from engines.catalog import adapter_fields, adapter_paths
from gateway.errors import EndpointNotOffered, InvalidRequest, ModelNotFound, NothingStable
from registry.database import Snapshot
from registry.liveness.sleeping_pools import SleepingPool
from registry.rollouts.tally import Side
from registry.types import COMPLETION_PATHS

API_KEY: Final = "api-key:"
"""Prefix of a held key that is the name of an API key, all of whose requests are held; others are sticky keys."""
UNKNOWN_ROOM: Final = 256
"""The room of a replica that has not reported how many requests it takes at a time."""
_MOST_KEPT: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where the conversations of one adapter go; revisions are served names."""

    adapter: str
    base: str
    stable: str | None
    canary: str | None = None
    """The canary of the open rollout, from its beginning on, when only forced requests go there."""
    canary_weight: int = 0
    rollout_id: str | None = None
    """The rollout that answers are evidence for: open and taking traffic, or promoted within the rollback window."""
    step: int = 0
    """Index into its plan's steps; their number itself stands for the watch after the promotion."""
    is_promoted: bool = False
    """True in that watch: its canary is the stable now."""
    forced: Mapping[str, Side] = field(default_factory=dict)
    """Sticky keys, and API keys behind `API_KEY`, that an operator holds on a side while a rollout is open."""
    shadow_percent: int = 0
    """Percent of the stable's requests that are copied to the canary."""
    shadow_judge: str | None = None
    """The model that decides which of two answers is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The rollout, step and side that the answer to a request is evidence of."""

    adapter: str
    rollout_id: str
    step: int
    side: Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The revision or base model that answers a request."""

    served_name: str
    evidence: Evidence | None = None
    """None where the caller, not the route, chose the revision, and where no rollout is watched."""
    route: Route | None = None
    """None for a base model or a pinned revision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A ready replica and the served names that it answers to, its base model's among them."""

    replica: str
    url: str
    base: str
    engine: str
    """Kind of engine behind it, which decides how a request names its adapter."""
    served_names: frozenset[str]
    pool: str = ""
    """Name of its pool; `hand:` and the base model for an engine that was entered by hand."""
    room: int = UNKNOWN_ROOM
    """How many requests a gateway has there at a time before more wait at the gateway."""
    paths: frozenset[str] = frozenset(COMPLETION_PATHS)
    """Paths of the inference requests that it answers by its base model."""
    reads_calls: bool = True
    """False where tool calls of the model would stay in the text."""

    def offers(self, served_name: str, path: str) -> bool:
        """Whether the replica answers requests of *path* by *served_name*, and not by its base model in its place."""
        return path in self.paths and (served_name == self.base or path in adapter_paths(self.engine))

    def address_of(self, served_name: str) -> Mapping[str, str]:
        """Return the fields of a request's body by which the engine recognises whose answer is wanted."""
        return {"model": served_name} if served_name == self.base else adapter_fields(self.engine, served_name)


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
    """By replica id."""
    serving: Mapping[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    """Served name -> the ready replicas that answer to it; names that the same ones answer to share one tuple."""
    private: Mapping[str, str] = field(default_factory=dict)
    """Adapters that only one tenant may use -> that tenant."""
    shared: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Served names that tenants beside their owner may use -> those tenants."""
    request_places: Mapping[str, int] = field(default_factory=dict)
    """Pool -> how many requests a gateway has there at a time."""
    sleeping_pools: tuple[SleepingPool, ...] = ()
    """Pools that may have no replica, by name; those with a ready one are in `request_places`."""
    targets: dict[str, Target] = field(default_factory=dict, init=False, compare=False, repr=False)
    """Targets by the names that were asked for, of those names that have one target as long as the table holds."""
    source: Snapshot | None = field(default=None, compare=False, repr=False)
    """The snapshot that the table was built from, so that the next table takes over what is the same."""

    def knows(self, served_name: str) -> bool:
        """Whether *served_name* is a base model or a ready revision."""
        return served_name in self.bases or served_name in self.pinned

    def endpoint_of(self, replica: str) -> Endpoint | None:
        """Return the ready replica of this id."""
        return next((endpoint for endpoint in self.endpoints if endpoint.replica == replica), None)

    def endpoints_of(self, served_name: str) -> tuple[Endpoint, ...]:
        """Return the ready replicas of *served_name*: the same object in later tables while they are equal."""
        return self.serving.get(served_name, ())


class Offers:
    """The replicas that offer a path, from memory while a name's endpoints are the same object."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], tuple[Sequence[Endpoint], Sequence[Endpoint]]] = {}

    def of(self, table: RouteTable, served_name: str, path: str) -> Sequence[Endpoint]:
        """Return the endpoints of *served_name* that answer *path* by it; the very same object where all do.

        The balancer finds its ring by the identity of this object, so equal answers are one object in later tables too.
        """
        endpoints = table.serving.get(served_name, ())
        kept = self._kept.get((served_name, path))
        if kept is not None and kept[0] is endpoints:
            return kept[1]
        offering = tuple(endpoint for endpoint in endpoints if endpoint.offers(served_name, path))
        found = endpoints if len(offering) == len(endpoints) else offering
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        self._kept[served_name, path] = (endpoints, found)
        return found


def not_offered(
    table: RouteTable, served_name: str, path: str, models: Collection[str] | None = None, asked: str = ""
) -> EndpointNotOffered:
    """Return the error for a path that no replica of *served_name* offers; its message lists the pools that do.

    With *models* it lists only pools whose base model is one of them. *asked* is the path of the client's request where
    *path* answers that one.
    """
    offering = sorted(
        {
            f"{endpoint.pool or endpoint.replica} ({endpoint.base})"
            for endpoint in table.endpoints
            if endpoint.offers(endpoint.base, path) and (models is None or endpoint.base in models)
        }
    )
    where = f"Pools that do: {', '.join(offering)}." if offering else "No pool here does."
    is_base_only = any(
        served_name in endpoint.served_names and endpoint.offers(endpoint.base, path) for endpoint in table.endpoints
    )
    why = "its engines answer it by the base model alone" if is_base_only else "its engines do not offer it"
    return EndpointNotOffered(f"{asked or path} is not there for {served_name!r}: {why}. {where}", param="model")


def resolve(table: RouteTable, name: str, sticky_key: str, side: Side | None = None, caller: str = "") -> Target:
    """Return the target of a request of the API key *caller* for *name*; `ModelNotFound` lists no others.

    While a rollout of the adapter is open, *side* goes before the side that is held for the sticky key, which goes
    before the side that is held for the API key, which goes before the sticky key's hash.
    """
    asked, name = name, table.aliases.get(name, name)
    if name in table.bases or name in table.pinned:
        target = table.targets[asked] = Target(served_name=name)
        return target
    route = table.routes.get(name)
    if route is None:
        raise ModelNotFound(f"there is no model of the name {name[:64]!r}")
    forced = side
    if forced is None and route.forced:
        forced = route.forced.get(sticky_key) or route.forced.get(f"{API_KEY}{caller}")
    if route.canary is not None and forced is Side.CANARY:
        return Target(served_name=route.canary, route=route)
    if route.stable is None:
        raise NothingStable(
            f"adapter {route.adapter!r} has no stable revision yet: its first one is still loading; "
            f"`lorry adapters show {route.adapter}` says where it stands"
        )
    if route.canary is not None and forced is Side.STABLE:
        return Target(served_name=route.stable, route=route)
    chosen = choose_side(route, sticky_key)
    served_name = route.canary if chosen is Side.CANARY and route.canary else route.stable
    # Only a side that the hash chose is evidence: whoever forces a side chooses the requests with it.
    target = Target(served_name=served_name, evidence=_evidence(route, chosen), route=route)
    if route.canary is None:  # there is one side, whatever the key and the header
        table.targets[asked] = target
    return target


def choose_side(route: Route, sticky_key: str) -> Side:
    """Return the side of a key: always the same one; raising the weight only ever adds keys to the canary."""
    # the hash holds the canary's name, so that another rollout of the adapter moves other conversations
    digest = sha256(f"{route.adapter}/{route.canary}/{sticky_key}".encode()).digest()
    bucket = int.from_bytes(digest[:8], "big") % 100
    return Side.CANARY if bucket < route.canary_weight else Side.STABLE


def _evidence(route: Route, chosen: Side) -> Evidence | None:
    if route.rollout_id is None:
        return None
    side = Side.CANARY if route.is_promoted else chosen
    return Evidence(adapter=route.adapter, rollout_id=route.rollout_id, step=route.step, side=side)


_PROMPT_FIELDS: Final = ("messages", "prompt", "input", "query")


def sticky_key(body: Mapping[str, Any], session_id: str | None, credential: str) -> str:
    """Return the key that keeps a conversation on its side of a rollout.

    The key is *session_id* (header `x-session-id`), else the body's `user`, `safety_identifier` or `prompt_cache_key`,
    else a hash of the caller's *credential* and the first user message (or the prompt), which later turns repeat.
    """
    named = session_id or body.get("user") or body.get("safety_identifier") or body.get("prompt_cache_key")
    if isinstance(named, str) and named:
        return named
    opening = _opening(body)
    try:
        return sha256(credential.encode() + b"\0" + orjson.dumps(opening)).hexdigest()
    except orjson.JSONEncodeError as exc:
        raise InvalidRequest("the prompt has a number beyond 64 bits, or is nested too deeply") from exc


def _opening(body: Mapping[str, Any]) -> object:
    messages = next((body[name] for name in _PROMPT_FIELDS if name in body), None)
    if not isinstance(messages, list):
        return messages
    for message in messages:
        if isinstance(message, dict) and message.get("role") == "user":
            return message.get("content")
    return messages
