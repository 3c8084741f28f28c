"""Policies without a placement: a request goes to a replica, which loads what it lacks and drops what was used last."""

from __future__ import annotations

from collections import defaultdict
from math import inf

import numpy as np

from gateway.balancing.balancing import Balancer, affinity_of
from gateway.balancing.replica_health import ReplicaHealth
from gateway.routing.routing import Endpoint
from studies.placement.crowd import AdapterRequest
from studies.placement.fleet import Fleet, LoadingReplica


def endpoint(number: int) -> Endpoint:
    """Return the route table's row of a simulated replica."""
    return Endpoint(replica=f"replica-{number:03}", url="", base="tiny", engine="vllm", served_names=frozenset())


def number_of(found: Endpoint | None) -> int:
    """Return the number of the simulated replica that was chosen."""
    if found is None:
        raise LookupError("there is no replica to choose")
    return int(found.replica.rpartition("-")[2])


class OnDemand:
    """A policy that chooses among all replicas, each with the least recently used adapters making room."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._waiting: defaultdict[tuple[int, int], list[AdapterRequest]] = defaultdict(list)
        fleet.on_loaded = self._start

    def arrive(self, request: AdapterRequest) -> bool:
        """Send the request to its replica; return whether that one has the adapter."""
        replica = self._fleet.replicas[self.choose(request)]
        if request.adapter in replica.loaded:
            self._fleet.begin(replica.number, request)
            return True
        waiting = self._waiting[replica.number, request.adapter]
        waiting.append(request)
        if len(waiting) == 1:
            replica.queue.append(request.adapter)
            self._fleet.load_next(replica)
        return False

    def _start(self, replica: LoadingReplica, adapter: int) -> None:
        while len(replica.loaded) > self._fleet.case.places:
            others = [each for each in replica.loaded if each != adapter]
            idle = (each for each in others if not replica.asking[each])
            self._fleet.unload(replica, next(idle, others[0]))
        for request in self._waiting.pop((replica.number, adapter), ()):
            self._fleet.begin(replica.number, request)

    def choose(self, request: AdapterRequest) -> int:
        """Return the number of the replica for a request."""
        raise NotImplementedError

    def changed(self) -> None:
        """Take note that a replica left or joined."""


class LeastLoaded(OnDemand):
    """Chooses a replica with the fewest requests, at random among equals."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet)
        self._rng = np.random.default_rng([fleet.case.seed, 4])

    def choose(self, request: AdapterRequest) -> int:
        """Return a replica with the fewest requests."""
        fewest = min(replica.in_flight for replica in self._fleet.replicas.values())
        equal = [number for number, replica in self._fleet.replicas.items() if replica.in_flight == fewest]
        return equal[int(self._rng.integers(len(equal)))]


class ByHash(OnDemand):
    """Chooses by consistent hashing of the adapter's name, with or without a bound of each replica's load."""

    def __init__(self, fleet: Fleet, load_bound: float = inf) -> None:
        super().__init__(fleet)
        self._balancers = [Balancer(ReplicaHealth(), load_bound) for _ in range(fleet.case.gateways)]
        self.changed()
        fleet.on_ended = self._ended

    def changed(self) -> None:
        """Choose among the replicas that are there now."""
        self._endpoints = tuple(endpoint(number) for number in sorted(self._fleet.replicas))

    def choose(self, request: AdapterRequest) -> int:
        """Return the first replica on the circle that is below the bound."""
        name = f"adapter-{request.adapter}@1"
        balancer = self._balancers[request.gateway]
        found = balancer.choose(self._endpoints, affinity_of(name, b""), (), self._fleet.now)
        number = number_of(found)
        balancer.begin(endpoint(number).replica, name)
        return number

    def _ended(self, number: int, request: AdapterRequest) -> None:
        self._balancers[request.gateway].end(endpoint(number).replica, f"adapter-{request.adapter}@1")


class Everywhere(ByHash):
    """Has every adapter on every replica, however many places that takes."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet, 1.25)
        self.changed()

    def changed(self) -> None:
        """Load what a replica lacks: a new one loads all adapters before it serves."""
        super().changed()
        for replica in self._fleet.replicas.values():
            if len(replica.loaded) < self._fleet.case.adapters:
                replica.loaded.update(dict.fromkeys(range(self._fleet.case.adapters)))
                self._fleet.loads += [self._fleet.now] * self._fleet.case.adapters
