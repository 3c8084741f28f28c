"""The product's own placement, demand and balancing over a registry with a simulated clock."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Final

from bench.big_registry import BASE, snapshot_of
from gateway.balancing.balancing import Balancer, affinity_of
from gateway.balancing.demand import AveragedDemand
from gateway.balancing.replica_health import ReplicaHealth
from gateway.routing.placement import needs_of
from gateway.routing.placement_seats import place
from gateway.routing.routing import Endpoint
from studies.placement.crowd import AdapterRequest
from studies.placement.fleet import Fleet, LoadingReplica
from studies.placement.on_demand import endpoint, number_of
from studies.placement.uses import UsesInMemory

_TICK_S: Final = 1.0
"""How often replicas look at what to have; a whole placement is computed once for all of them."""
_WHOLE_EVERY_S: Final = 10.0
_REPORT_S: Final = 5.0


class Placed:
    """Replicas load what `gateway.routing.placement` puts there; gateways report what they are asked for."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._snapshot = snapshot_of(fleet.case.adapters, 0)
        self._uses = UsesInMemory()
        self._balancers = [Balancer(ReplicaHealth()) for _ in range(fleet.case.gateways)]
        self._demands = [AveragedDemand() for _ in range(fleet.case.gateways)]
        self._waiting: defaultdict[int, list[AdapterRequest]] = defaultdict(list)
        self._endpoints: dict[int, tuple[Endpoint, ...]] = {}
        self._placed_at = -_WHOLE_EVERY_S
        self._is_due = True
        fleet.on_loaded, fleet.on_ended = self._loaded, self._ended
        fleet.at(0.0, self._tick)
        fleet.at(_REPORT_S, self._report)
        fleet.at(1.0, self._sample)

    def arrive(self, request: AdapterRequest) -> bool:
        """Send the request to a replica that has its adapter, or ask for it; return whether there was one."""
        if self._fleet.holders[request.adapter]:
            self._begin(request)
            return True
        self._waiting[request.adapter].append(request)
        self._ask(request.adapter, request.gateway)
        return False

    def changed(self) -> None:
        """Take note that a replica left or joined."""
        self._is_due = True
        self._endpoints.clear()

    def _ask(self, adapter: int, gateway: int) -> None:
        name = name_of(adapter)
        self._uses.await_revision(gateway, name, self._demands[gateway].last(name), self._fleet.now)
        self._is_due = True

    def _begin(self, request: AdapterRequest) -> None:
        if (endpoints := self._endpoints.get(request.adapter)) is None:
            endpoints = tuple(endpoint(number) for number in sorted(self._fleet.holders[request.adapter]))
            self._endpoints[request.adapter] = endpoints
        balancer, name = self._balancers[request.gateway], name_of(request.adapter)
        number = number_of(balancer.choose(endpoints, affinity_of(name, b"%d" % int(request.at * 1e6)), (), request.at))
        balancer.begin(endpoint(number).replica, name)
        self._fleet.begin(number, request)

    def _ended(self, number: int, request: AdapterRequest) -> None:
        self._balancers[request.gateway].end(endpoint(number).replica, name_of(request.adapter))

    def _loaded(self, replica: LoadingReplica, adapter: int) -> None:
        self._endpoints.pop(adapter, None)
        for request in self._waiting.pop(adapter, ()):
            self._begin(request)

    def _report(self) -> None:
        for number, (balancer, demand) in enumerate(zip(self._balancers, self._demands, strict=True)):
            if averages := demand.report(balancer.take_used(), self._fleet.now):
                self._uses.record(number, averages, self._fleet.now)
        self._fleet.at(self._fleet.now + _REPORT_S, self._report)

    def _sample(self) -> None:
        for balancer, demand in zip(self._balancers, self._demands, strict=True):
            demand.sample(balancer.in_flight_by_name())
        self._fleet.at(self._fleet.now + 1.0, self._sample)

    def _tick(self) -> None:
        now = self._fleet.now
        for adapter in [each for each, waiting in self._waiting.items() if waiting[0].at < now - 1.0]:
            self._ask(adapter, self._waiting[adapter][0].gateway)
        if self._is_due or now - self._placed_at >= _WHOLE_EVERY_S:
            self._is_due, self._placed_at = False, now
            self._place()
        self._fleet.at(now + _TICK_S, self._tick)

    def _place(self) -> None:
        snapshot = replace(self._snapshot, uses=self._uses.read(self._fleet.now))
        needs = needs_of(snapshot, BASE, warm_since=self._fleet.now)
        placement = place(needs, {endpoint(n).replica: self._fleet.case.places for n in self._fleet.replicas})
        for replica in self._fleet.replicas.values():
            loaded = {name_of(adapter) for adapter in replica.loaded}
            wanted = placement.wanted_in(endpoint(replica.number).replica, loaded)
            self._move(replica, [adapter_of(need.name) for need in wanted])

    def _move(self, replica: LoadingReplica, wanted: list[int]) -> None:
        for adapter in replica.loaded.keys() - set(wanted):
            self._fleet.unload(replica, adapter)
            self._endpoints.pop(adapter, None)
        replica.queue = [adapter for adapter in wanted if adapter not in replica.loaded]
        self._fleet.load_next(replica)


def name_of(adapter: int) -> str:
    """Return the served name of a simulated adapter."""
    return f"adapter-{adapter:05}@1"


def adapter_of(served_name: str) -> int:
    """Return the number of the simulated adapter."""
    return int(served_name.removeprefix("adapter-").removesuffix("@1"))
