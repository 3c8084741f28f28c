"""Pools without a replica: which one a request wakes, and which are to be awake. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from gateway.routing.placement import first_numbers
from gateway.routing.routing import Route, RouteTable
from registry.database import Snapshot
from registry.liveness.sleeping_pools import SleepingPool
from registry.rollouts.rollout_state import RolloutState
from registry.states import ReplicaState, SlotState
from registry.types import Replica

FIRST_REVISION_S: Final = 600.0
"""How long after its publication an adapter's first revision wakes its pool, to be loaded and become stable.

Once only: a revision that cannot be loaded must not wake the pool again and again.
"""
_AT_WORK: Final = (ReplicaState.STARTING, ReplicaState.READY, ReplicaState.UNHEALTHY)
"""The states in which a replica is the pool's own; one that drains is leaving."""


def pool_to_wake(table: RouteTable, served_name: str) -> SleepingPool | None:
    """Return the pool that a request for *served_name* wakes; None where a replica may answer without that."""
    if not table.sleeping_pools:
        return None
    base = table.pinned.get(served_name)
    # Where a replica serves the base model already, it loads the adapter itself.
    if table.endpoints_of(served_name) or (base is not None and table.endpoints_of(base)):
        return None
    for pool in table.sleeping_pools:
        serves = pool.base == served_name if base is None else base == pool.adapter_base
        if serves and pool.name not in table.request_places:
            return pool
    return None


def asleep_in(snapshot: Snapshot) -> list[SleepingPool]:
    """Return the pools that have no replica, not even one that starts or leaves."""
    present = {replica.pool for replica in snapshot.replicas}
    return [pool for pool in snapshot.sleeping_pools if pool.name not in present]


def is_asleep(snapshot: Snapshot, base: str) -> bool:
    """Whether adapters of *base* have a pool that sleeps, and no replica, not even one that starts or is unhealthy."""
    return any(pool.adapter_base == base for pool in snapshot.sleeping_pools) and not any(
        replica.adapter_base == base and replica.state in _AT_WORK for replica in snapshot.replicas
    )


def is_to_be_called(snapshot: Snapshot, pool: SleepingPool, now: float) -> bool:
    """Whether a replica of *pool* is to be started now: it has none at work, and something needs one."""
    if any(replica.pool == pool.name and replica.state in _AT_WORK for replica in snapshot.replicas):
        return False
    return next(reasons_for(snapshot, pool, now), None) is not None


def reasons_for(snapshot: Snapshot, pool: SleepingPool, now: float) -> Iterator[str]:
    """Yield what needs a replica of *pool*, besides the requests that one has: a few words for the log.

    What another pool's ready replica does as well is no reason.
    """
    others = [one for one in snapshot.replicas if one.pool != pool.name and one.state is ReplicaState.READY]
    bases = {one.base for one in others}
    adapter_bases = {one.adapter_base for one in others}
    names = _names_of(snapshot, pool, bases, adapter_bases)
    awaited = sorted(use.served_name for use in snapshot.uses if use.awaited_since is not None)
    yield from (f"{name} is awaited" for name in awaited if name in names)
    if pool.adapter_base in adapter_bases:
        return
    adapters = {adapter.name: adapter for adapter in snapshot.adapters if adapter.base == pool.adapter_base}
    for rollout in snapshot.rollouts:
        if rollout.state is RolloutState.PENDING and rollout.adapter in adapters:
            yield f"{rollout.adapter}@{rollout.canary} is to be proven"
    firsts = first_numbers(each for each in snapshot.revisions if each.adapter in adapters)
    own = [replica for replica in snapshot.replicas if replica.pool == pool.name]
    for each in snapshot.revisions:
        if each.adapter not in adapters or adapters[each.adapter].stable is not None:
            continue
        is_new = firsts[each.adapter] == each.number and now - each.created_at < FIRST_REVISION_S
        if is_new and not _has_failed(own, each.served_name):
            yield f"{each.served_name} is to be proven"


def used_at(snapshot: Snapshot, pool: SleepingPool) -> float:
    """Return when gateways last reported a request for what *pool* serves, unix seconds; 0 if they never did."""
    names = _names_of(snapshot, pool, (), ())
    return max((use.used_at for use in snapshot.uses if use.served_name in names), default=0.0)


def replicas_known(table: RouteTable, route: Route) -> bool:
    """Whether the replicas of *route* can be counted: not while its pool sleeps, or wakes."""
    base = route.base
    return bool(table.endpoints_of(base)) or not any(
        pool.adapter_base == base and pool.name not in table.request_places for pool in table.sleeping_pools
    )


def _names_of(
    snapshot: Snapshot, pool: SleepingPool, bases: Collection[str], adapter_bases: Collection[str]
) -> set[str]:
    """Return the served names that *pool* answers to, without those of *bases* and of adapters of *adapter_bases*."""
    names = set() if pool.base in bases else {pool.base}
    if pool.adapter_base not in adapter_bases:
        adapters = {adapter.name for adapter in snapshot.adapters if adapter.base == pool.adapter_base}
        names |= {each.served_name for each in snapshot.revisions if each.adapter in adapters}
        names |= {each.served_name for each in snapshot.checkpoints if each.base == pool.adapter_base}
    return names


def _has_failed(replicas: Collection[Replica], served_name: str) -> bool:
    slots = (slot for replica in replicas for slot in replica.slots if slot.served_name == served_name)
    return any(slot.state is SlotState.FAILED for slot in slots)
