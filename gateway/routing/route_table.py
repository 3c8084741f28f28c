"""The route table that follows from a snapshot of the registry. Pure; unchanged parts are those of the last table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter

from gateway.routing.routing import UNKNOWN_ROOM, Endpoint, Route, RouteTable
from registry.database import Snapshot
from registry.jobs.adapter_owners import AdapterOwner
from registry.jobs.checkpoint_permissions import CheckpointPermission
from registry.rollouts.rollout import Rollout
from registry.rollouts.tally import Side
from registry.states import ReplicaState, SlotState
from registry.types import Adapter, Replica


def build_table(snapshot: Snapshot, before: RouteTable | None = None) -> RouteTable:
    """Return the routes that follow from adapters, rollouts, forced sides and living replicas.

    Parts that did not change are taken from the table *before*: unchanged parts of two snapshots are the same objects.
    """
    before = before or RouteTable()
    endpoints = _endpoints(snapshot, before)
    pinned, aliases = before.pinned, before.aliases
    if not _names_are_those_of(before.source, snapshot):
        own = [each for each in snapshot.checkpoints if each.is_served]
        pinned = {revision.served_name: revision.base for revision in (*snapshot.revisions, *own)}
        named = (*snapshot.revisions, *snapshot.checkpoints)
        aliases = {each.alias: each.served_name for each in named if each.alias and each.served_name in pinned}
        aliases |= {base.alias: base.name for base in snapshot.bases if base.alias}
    return RouteTable(
        bases=frozenset(base.name for base in snapshot.bases),
        routes=_routes(snapshot, before),
        pinned=pinned,
        aliases=aliases,
        endpoints=endpoints,
        serving=before.serving if endpoints is before.endpoints else _serving(endpoints, before.serving),
        private=private_adapters(snapshot.owners),
        shared=shared_revisions(snapshot.permissions),
        request_places=_request_places(endpoints),
        sleeping_pools=snapshot.sleeping_pools,
        source=snapshot,
    )


def _names_are_those_of(source: Snapshot | None, snapshot: Snapshot) -> bool:
    """Whether no revision, checkpoint or base model changed since *source*; unchanged parts are the same objects."""
    return (
        source is not None
        and source.revisions is snapshot.revisions
        and source.checkpoints is snapshot.checkpoints
        and source.bases is snapshot.bases
    )


def private_adapters(owners: Iterable[AdapterOwner]) -> dict[str, str]:
    """Return the adapters that only one tenant may use, each with that tenant."""
    return {owner.adapter: owner.tenant for owner in owners if not owner.is_shared}


def shared_revisions(permissions: Iterable[CheckpointPermission]) -> dict[str, frozenset[str]]:
    """Return the served names that tenants beside their owner may use, each with those tenants."""
    found: dict[str, frozenset[str]] = {}
    for each in permissions:
        found[each.served_name] = found.get(each.served_name, frozenset()) | {each.project}
    return found


def _endpoints(snapshot: Snapshot, before: RouteTable) -> tuple[Endpoint, ...]:
    known = {endpoint.replica: endpoint for endpoint in before.endpoints}
    reported = {} if before.source is None else {each.id: each for each in before.source.replicas}
    found = tuple(
        known[each.id] if _is_unchanged(reported.get(each.id), each) else _same(known.get(each.id), endpoint_of(each))
        for each in snapshot.replicas
        if is_ready(each)
    )
    return before.endpoints if found == before.endpoints else found


def _is_unchanged(old: Replica | None, new: Replica) -> bool:
    """Whether two reports of a replica give the same endpoint; their slots are compared by identity, which is quick."""
    if old is None or old.slots is not new.slots:
        return False
    # These fields change all the time, and no endpoint has them.
    return replace(old, heartbeat_at=new.heartbeat_at, load=new.load, memory_bytes=new.memory_bytes) == new


def _request_places(endpoints: Sequence[Endpoint]) -> dict[str, int]:
    places: Counter[str] = Counter()
    for endpoint in endpoints:
        places[endpoint.pool] += endpoint.room
    return dict(places)


def _serving(
    endpoints: Sequence[Endpoint], before: Mapping[str, tuple[Endpoint, ...]]
) -> dict[str, tuple[Endpoint, ...]]:
    """Return `RouteTable.serving`, in time that grows with the names of replicas that differ in their names.

    Endpoints that did not change are the same objects as *before*, so members are compared by identity.
    """
    alike: dict[frozenset[str], list[Endpoint]] = {}
    for endpoint in endpoints:
        alike.setdefault(endpoint.served_names, []).append(endpoint)
    groups_of: dict[str, list[int]] = {}
    groups = list(alike.values())
    for number, names in enumerate(alike):
        for name in names:
            groups_of.setdefault(name, []).append(number)
    # Ids identify members here: the endpoints of *before* are alive, so none has been used again.
    kept = {tuple(map(id, members)): members for members in {id(each): each for each in before.values()}.values()}
    shared: dict[tuple[int, ...], tuple[Endpoint, ...]] = {}
    serving = {}
    for name, numbers in groups_of.items():
        key = tuple(numbers)
        if key not in shared:
            members = sorted((each for number in numbers for each in groups[number]), key=attrgetter("replica"))
            shared[key] = kept.get(tuple(map(id, members))) or tuple(members)
        serving[name] = shared[key]
    return serving


def _same(old: Endpoint | None, new: Endpoint) -> Endpoint:
    """Return *old* if it is equal, so that a cache by identity stays valid."""
    return old if old is not None and old == new else new


def _routes(snapshot: Snapshot, before: RouteTable) -> Mapping[str, Route]:
    """Return the route of every adapter; where only rollouts moved, routes without one are taken from *before*."""
    rolling = _rolling(snapshot)
    source = before.source
    if source is not None and source.adapters is snapshot.adapters and source.revisions is snapshot.revisions:
        names = rolling | _rolling(source)
        if not names:
            return before.routes
        routes = dict(before.routes)
        changed = [adapter for adapter in snapshot.adapters if adapter.name in names]
    else:
        routes = {}
        changed = served_series(snapshot)
    opened = {rollout.adapter: rollout for rollout in snapshot.rollouts}
    watched = {rollout.adapter: rollout for rollout in snapshot.watched}
    forced: dict[str, dict[str, Side]] = {}
    for held in snapshot.forced:
        forced.setdefault(held.adapter, {})[held.sticky_key] = held.side
    for adapter in changed:
        route = _plain_route(adapter)
        if promoted := watched.get(adapter.name):
            route = replace(route, rollout_id=promoted.id, step=len(promoted.plan.steps), is_promoted=True)
        if rollout := opened.get(adapter.name):
            route = _with_rollout(route, rollout, forced.get(adapter.name, {}))
        routes[adapter.name] = route
    return routes


def served_series(snapshot: Snapshot) -> list[Adapter]:
    """Return the adapters that have a revision to serve: not those of which all were retired."""
    ready = {revision.adapter for revision in snapshot.revisions}
    return [adapter for adapter in snapshot.adapters if adapter.name in ready or adapter.stable is not None]


def _rolling(snapshot: Snapshot) -> set[str]:
    """Return the adapters whose route follows from more than their own row."""
    return {rollout.adapter for rollout in (*snapshot.rollouts, *snapshot.watched)}


def _plain_route(adapter: Adapter) -> Route:
    stable = None if adapter.stable is None else f"{adapter.name}@{adapter.stable}"
    return Route(adapter=adapter.name, base=adapter.base, stable=stable)


def _with_rollout(route: Route, rollout: Rollout, forced: Mapping[str, Side]) -> Route:
    """Return the route while *rollout* is open; a pending one leaves the watch over the last promotion as it is."""
    route = replace(route, canary=f"{rollout.adapter}@{rollout.canary}", forced=forced)
    if not rollout.takes_traffic:
        return route
    return replace(
        route,
        canary_weight=rollout.canary_weight,
        rollout_id=rollout.id,
        step=rollout.step,
        is_promoted=False,
        shadow_percent=rollout.shadow_percent,
        shadow_judge=rollout.shadow_judge,
    )


def is_ready(replica: Replica) -> bool:
    """Whether the replica takes requests."""
    return replica.state is ReplicaState.READY


def endpoint_of(replica: Replica) -> Endpoint:
    """Return the endpoint for the served names that *replica* has proven."""
    ready = {slot.served_name for slot in replica.slots if slot.state is SlotState.READY}
    return Endpoint(
        replica=replica.id,
        url=replica.url,
        base=replica.base,
        engine=replica.engine,
        served_names=frozenset(ready | {replica.base}),
        pool=replica.pool or f"hand:{replica.base}",
        room=replica.room or UNKNOWN_ROOM,
        paths=frozenset(replica.paths),
        reads_calls=replica.reads_calls,
    )


def loaded_on(snapshot: Snapshot) -> dict[str, int]:
    """Map each served name to the number of ready replicas that have it loaded."""
    counts: dict[str, int] = {}
    for replica in filter(is_ready, snapshot.replicas):
        for served_name in endpoint_of(replica).served_names:
            counts[served_name] = counts.get(served_name, 0) + 1
    return counts


def paths_on(snapshot: Snapshot) -> dict[str, list[str]]:
    """Map each base model to the paths of requests that its ready replicas answer by it."""
    found: dict[str, set[str]] = {}
    for replica in filter(is_ready, snapshot.replicas):
        found.setdefault(replica.base, set()).update(replica.paths)
    return {base: sorted(paths) for base, paths in found.items()}
