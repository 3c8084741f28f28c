"""Prometheus metrics of what replicas report and of which of them have each adapter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.routing.routing import RouteTable
from gateway.routing.sleeping import asleep_in, replicas_known
from registry.states import ReplicaState, SlotState
from registry.types import Replica

_REPLICA: list[str] = ["replica", "pool"]


class ReplicaMetrics(Collector):
    """Shows the replicas of the last reading, ready or not: take `max` over gateways, never `sum`."""

    def __init__(self, table: Callable[[], RouteTable]) -> None:
        self._table = table

    def collect(self) -> Iterator[Metric]:
        """Yield the states of replicas and revisions, and the replicas of each adapter's stable and canary."""
        table = self._table()
        replicas = () if table.source is None else table.source.replicas
        living = [each for each in replicas if each.state is not ReplicaState.GONE]
        yield _states(living)
        yield from _reports(living)
        yield _asleep(table)
        yield _adapter_replicas(table)


def _states(replicas: list[Replica]) -> Metric:
    family = GaugeMetricFamily("gateway_replicas", "Replicas by state", labels=["pool", "base", "engine", "state"])
    counts = Counter((each.pool, each.base, each.engine, each.state) for each in replicas)
    for pool, base, engine in sorted({labels[:3] for labels in counts}):
        for state in ReplicaState:
            if state is not ReplicaState.GONE:
                family.add_metric([pool, base, engine, state], counts[pool, base, engine, state])
    return family


def _reports(replicas: list[Replica]) -> Iterator[Metric]:
    slots = GaugeMetricFamily(
        "gateway_replica_revisions", "Revisions in a replica by state", labels=[*_REPLICA, "state"]
    )
    load = GaugeMetricFamily("gateway_replica_load", "Requests that run or wait in an engine", labels=_REPLICA)
    memory = GaugeMetricFamily("gateway_replica_memory_bytes", "Resident memory of an engine", labels=_REPLICA)
    beats = GaugeMetricFamily(
        "gateway_replica_heartbeat_timestamp_seconds", "When a replica last reported itself", labels=_REPLICA
    )
    for each in replicas:
        counts = Counter(slot.state for slot in each.slots)
        for state in SlotState:
            slots.add_metric([each.id, each.pool, state], counts[state])
        load.add_metric([each.id, each.pool], each.load)
        beats.add_metric([each.id, each.pool], each.heartbeat_at)
        if each.memory_bytes is not None:
            memory.add_metric([each.id, each.pool], each.memory_bytes)
    yield from (slots, load, memory, beats)


def _asleep(table: RouteTable) -> Metric:
    family = GaugeMetricFamily(
        "gateway_pool_asleep",
        "1 for a pool without a replica, which the next request wakes; 0 for one that may sleep and has some",
        labels=["pool", "base", "engine"],
    )
    asleep = set() if table.source is None else {pool.name for pool in asleep_in(table.source)}
    for pool in table.sleeping_pools:
        family.add_metric([pool.name, pool.base, pool.engine], pool.name in asleep)
    return family


def _adapter_replicas(table: RouteTable) -> Metric:
    family = GaugeMetricFamily(
        "gateway_adapter_replicas",
        "Ready replicas that have proven the revision of a side",
        labels=["adapter", "side", "revision"],
    )
    for name, route in table.routes.items():
        if not replicas_known(table, route):
            continue
        for side, revision in (("stable", route.stable), ("canary", route.canary)):
            if revision is not None:
                family.add_metric([name, side, revision], len(table.endpoints_of(revision)))
    return family
