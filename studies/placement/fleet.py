"""Replicas that load adapters, in simulated time, with what is measured of them."""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from itertools import count
from math import inf

from studies.placement.crowd import AdapterRequest, FleetCase


class LoadingReplica:
    """The adapters of a replica, the least recently used first, and those that it is to load."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.loaded: OrderedDict[int, None] = OrderedDict()
        self.queue: list[int] = []
        """To be loaded, in order; the first is being loaded while `is_loading`."""
        self.is_loading = False
        self.asking: Counter[int] = Counter()
        self.in_flight = 0
        self.area = 0.0
        """Requests in flight, added up over the counted time."""
        self.since = 0.0


class Fleet:
    """Simulated replicas: requests begin and end there, adapters are loaded one at a time."""

    def __init__(self, case: FleetCase) -> None:
        self.case = case
        self.now = 0.0
        self.replicas = {number: LoadingReplica(number) for number in range(case.replicas)}
        self.holders: defaultdict[int, set[int]] = defaultdict(set)
        """Adapter -> numbers of the replicas that have it loaded."""
        self.on_loaded: Callable[[LoadingReplica, int], None] = lambda *_: None
        self.on_ended: Callable[[int, AdapterRequest], None] = lambda *_: None
        self.loads: list[float] = []
        """When each load of an adapter ended."""
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, when: float, do: Callable[[], None]) -> None:
        """Call *do* at the simulated time *when*."""
        heapq.heappush(self._events, (when, next(self._order), do))

    def run_until(self, when: float) -> None:
        """Do what is to happen until *when*."""
        while self._events and self._events[0][0] <= when:
            self.now, _, do = heapq.heappop(self._events)
            do()
        self.now = when

    def begin(self, number: int, request: AdapterRequest) -> None:
        """Begin a request at a replica, which ends when its answer is over."""
        replica = self.replicas[number]
        self._count(replica, 1)
        replica.asking[request.adapter] += 1
        if request.adapter in replica.loaded:
            replica.loaded.move_to_end(request.adapter)
        self.at(self.now + request.answer_s, lambda: self._end(replica, request))

    def _end(self, replica: LoadingReplica, request: AdapterRequest) -> None:
        self._count(replica, -1)
        replica.asking[request.adapter] -= 1
        self.on_ended(replica.number, request)

    def _count(self, replica: LoadingReplica, more: int) -> None:
        start, end = self.case.warm_s, self.case.warm_s + self.case.counted_s
        replica.area += replica.in_flight * max(0.0, min(self.now, end) - max(replica.since, start))
        replica.since = self.now
        replica.in_flight += more

    def load_next(self, replica: LoadingReplica) -> None:
        """Begin to load what is first in the replica's queue, unless it loads something already."""
        if replica.is_loading or not replica.queue:
            return
        replica.is_loading = True
        adapter = replica.queue.pop(0)
        self.at(self.now + self.case.load_s, lambda: self._loaded(replica, adapter))

    def _loaded(self, replica: LoadingReplica, adapter: int) -> None:
        replica.is_loading = False
        if replica.number not in self.replicas:
            return
        replica.loaded[adapter] = None
        self.holders[adapter].add(replica.number)
        self.loads.append(self.now)
        self.on_loaded(replica, adapter)
        self.load_next(replica)

    def unload(self, replica: LoadingReplica, adapter: int) -> None:
        """Take an adapter out of a replica."""
        del replica.loaded[adapter]
        self.holders[adapter].discard(replica.number)

    def leave(self, number: int) -> None:
        """Take a replica away, with what it had loaded; its requests end where they are."""
        replica = self.replicas.pop(number)
        for adapter in replica.loaded:
            self.holders[adapter].discard(number)

    def join(self) -> LoadingReplica:
        """Add an empty replica."""
        number = self.case.replicas
        self.replicas[number] = LoadingReplica(number)
        self.replicas[number].since = inf
        return self.replicas[number]

    def loads_between(self, start: float, end: float) -> int:
        """Return how many loads ended within a time."""
        return sum(start <= when < end for when in self.loads)

    def largest_load(self) -> float:
        """Return the most requests in flight that a replica had on average, over the mean of all."""
        areas = [replica.area for replica in self.replicas.values() if replica.since < inf]
        return max(areas) * len(areas) / max(1e-9, sum(areas))
