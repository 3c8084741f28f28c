"""Which replica answers. Pure: the same calls in the same order make the same choices.

Consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, 2016, arXiv:1608.01350). Replicas and
requests are put on a circle by hash, and a request belongs to the first replica after it; so requests that begin alike
meet the same prefix cache, and a replica that comes or goes moves no request between the others. A replica that has
`load_bound` times the average of requests already is passed over for the next on the circle.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

import numpy as np

from gateway.balancing.replica_health import ReplicaHealth
from gateway.routing.routing import Endpoint

POINTS: Final = 64
"""How many points each replica has on the circle."""
_POINTS_A_HASH: Final = 8
_WALK: Final = 96
"""How many points are looked at before the least loaded replica of all is chosen."""
_FEW: Final = 8
"""Up to so many replicas the requests in flight are summed at each choice; for more the sum is kept."""
_MOST_POINTS: Final = 2_000_000
"""How many points all kept circles may have; the least recently used circles are dropped first."""
_WEIGHED_FOR_S: Final = 0.1
"""How long the sum of shares is kept while only slow start changes it."""
_MASK: Final = 2**64 - 1
_ODD: Final = 0x9E3779B97F4A7C15
"""2**64 over the golden ratio: multiplying by it spreads bits (Knuth, The Art of Computer Programming, 6.4)."""


def affinity_of(served_name: str, prefix: bytes) -> int:
    """Return where requests for *served_name* that begin with *prefix* belong; 64 bits, alike in every process."""
    return int.from_bytes(blake2b(served_name.encode() + b"\0" + prefix, digest_size=8).digest(), "little")


@dataclass(slots=True, eq=False)
class _Load:
    """How many requests of this gateway one replica has."""

    replica: str
    seed: int
    in_flight: int = 0
    rings: list[_Ring] = field(default_factory=list)
    """The circles that the replica is on and that keep a sum."""
    uses: int = 0
    """How many circles the replica is on."""
    on_begin: Callable[[], None] | None = None
    """Called when the replica has one request more."""


@dataclass(slots=True, eq=False)
class _Ring:
    """The circle of some replicas; `loads` are in the order of `endpoints`."""

    endpoints: Sequence[Endpoint]
    replicas: tuple[str, ...]
    loads: list[_Load]
    points: array[int]
    owners: array[int]
    """The place in `loads` of the replica at each point."""
    total: int
    """Requests in flight at all of them; kept only where there are many."""
    weight: float = 0.0
    """The sum of their shares, as it was at `weighed_at` and after `changes`."""
    weighed_at: float = 0.0
    changes: int = -1


class Balancer:
    """Chooses replicas for one gateway, whose requests in flight it counts."""

    def __init__(self, health: ReplicaHealth, load_bound: float = 1.25) -> None:
        self._health = health
        self._load_bound = load_bound
        self._loads: dict[str, _Load] = {}
        self._rings: dict[tuple[str, ...], _Ring] = {}
        self._views: OrderedDict[int, _Ring] = OrderedDict()
        """By the identity of the sequence of endpoints, the least recently used first."""
        self._points = 0
        self._asking: Counter[str] = Counter()
        """Requests in flight by served name."""
        self._used: set[str] = set()
        """The names that requests began for since `take_used`."""

    def choose(
        self, endpoints: Sequence[Endpoint], affinity: int, passed_over: Collection[str], now: float
    ) -> Endpoint | None:
        """Return the endpoint for a request, None if there are none. Call `begin` before the next choice.

        *endpoints* is not to change: the same object finds its circle at once. Replicas in *passed_over* are chosen
        only when there is no other, ejected ones only before those.
        """
        ring = self._views.get(id(endpoints))
        if ring is None or ring.endpoints is not endpoints:
            if not endpoints:
                return None
            ring = self._view(endpoints)
        self._views.move_to_end(id(endpoints))
        total = ring.total if len(ring.loads) > _FEW else sum([load.in_flight for load in ring.loads])
        impaired = self._health.impaired
        weight = self._weight(ring, now) if impaired else len(ring.loads)
        # The paper's bound counts the new request too; where replicas have lowered shares, it is for one whole share.
        limit = self._load_bound * (total + 1) / weight
        owners = ring.owners
        start = bisect_left(ring.points, affinity)
        for step in range(start, start + _WALK):
            owner = owners[step % len(owners)]
            load = ring.loads[owner]
            if load.in_flight >= limit or load.replica in passed_over:
                continue
            if load.replica not in impaired or self._accepts(load, affinity, limit, now):
                return endpoints[owner]
        return self._least_loaded(ring, passed_over, now)

    def begin(self, replica: str, served_name: str) -> None:
        """Count one request more at *replica* and for *served_name*."""
        self._asking[served_name] += 1
        self._used.add(served_name)
        load = self._loads.get(replica) or self._new_load(replica)
        load.in_flight += 1
        for ring in load.rings:
            ring.total += 1
        if load.on_begin is not None:
            # The watcher looks at the count: a shadow copy is cut off before the client's request is sent.
            load.on_begin()

    def end(self, replica: str, served_name: str) -> None:
        """Count one request less at *replica* and for *served_name*."""
        self._asking[served_name] -= 1
        load = self._loads[replica]
        load.in_flight -= 1
        for ring in load.rings:
            ring.total -= 1
        if load.uses == 0:
            self._forget_unused(load)

    def watch(self, replica: str, on_begin: Callable[[], None] | None) -> None:
        """Call *on_begin* at once whenever *replica* has a request more; None ends that."""
        load = self._loads.get(replica) or self._new_load(replica)
        load.on_begin = on_begin
        self._forget_unused(load)

    def in_flight_by_name(self) -> dict[str, int]:
        """Return the requests in flight by served name."""
        self._asking = +self._asking  # without the names that nobody asks for any more
        return dict(self._asking)

    def take_used(self) -> set[str]:
        """Return the served names that were asked for since the last call, those with requests in flight among them."""
        # A long request counts at each call.
        used, self._used = self._used, set(+self._asking)
        return used

    def in_flight(self, replica: str) -> int:
        """Return how many requests of this gateway *replica* has."""
        load = self._loads.get(replica)
        return 0 if load is None else load.in_flight

    def _accepts(self, load: _Load, affinity: int, limit: float, now: float) -> bool:
        """Whether an impaired replica gets the request: a fixed part of those that belong to it, or a probe.

        The part is chosen by hash and not by chance, so that a prompt does not change replicas from turn to turn.
        """
        share = self._health.share(load.replica, now)
        if share <= 0.0:
            return self._health.take_probe(load.replica, now)
        # The replica's seed keeps two impaired replicas from refusing the same prompts.
        return load.in_flight < limit * share and ((affinity ^ load.seed) * _ODD & _MASK) < share * 2**64

    def _weight(self, ring: _Ring, now: float) -> float:
        """Return the sum of the shares of the replicas on the circle; a little even when all are ejected."""
        if ring.changes != self._health.changes or now - ring.weighed_at >= _WEIGHED_FOR_S:
            shares = self._health.shares(now)
            lost = sum(1.0 - shares[load.replica] for load in ring.loads if load.replica in shares) if shares else 0.0
            ring.weight = max(len(ring.loads) - lost, 0.01)
            ring.weighed_at, ring.changes = now, self._health.changes
        return ring.weight

    def _least_loaded(self, ring: _Ring, passed_over: Collection[str], now: float) -> Endpoint:
        """Return the endpoint with the least burden, for when the walk found none."""

        def burden(owner: int) -> tuple[bool, bool, float, int]:
            load = ring.loads[owner]
            share = self._health.share(load.replica, now)
            # An ejected replica's share of 0 sorts it behind already; as a divisor it is replaced by 1.
            return (load.replica in passed_over, share <= 0.0, (load.in_flight + 1) / (share or 1.0), owner)

        return ring.endpoints[min(range(len(ring.loads)), key=burden)]

    def _view(self, endpoints: Sequence[Endpoint]) -> _Ring:
        """Return the circle of *endpoints*; an existing one of the same replicas only gets the new endpoints."""
        replicas = tuple(endpoint.replica for endpoint in endpoints)
        ring = self._rings.get(replicas)
        if ring is not None:
            # The old object may be freed now, after which its id may be another's.
            self._views.pop(id(ring.endpoints))
            ring.endpoints = endpoints
        else:
            loads = [self._loads.get(replica) or self._new_load(replica) for replica in replicas]
            ring = self._rings[replicas] = _circle(endpoints, loads)
            self._points += len(ring.points)
            for load in loads:
                load.uses += 1
                if len(loads) > _FEW:
                    load.rings.append(ring)
        self._views[id(endpoints)] = ring
        while self._points > _MOST_POINTS and len(self._views) > 1:
            self._drop(self._views.popitem(last=False)[1])
        return ring

    def _drop(self, ring: _Ring) -> None:
        del self._rings[ring.replicas]
        self._points -= len(ring.points)
        for load in ring.loads:
            load.uses -= 1
            if len(ring.loads) > _FEW:
                load.rings.remove(ring)
            self._forget_unused(load)

    def _new_load(self, replica: str) -> _Load:
        seed = int.from_bytes(blake2b(replica.encode(), digest_size=8).digest(), "little")
        load = self._loads[replica] = _Load(replica=replica, seed=seed)
        return load

    def _forget_unused(self, load: _Load) -> None:
        if load.uses == 0 and load.in_flight <= 0 and load.on_begin is None:
            self._loads.pop(load.replica, None)


def _circle(endpoints: Sequence[Endpoint], loads: list[_Load]) -> _Ring:
    """Return the circle of *endpoints*, whose replicas all differ."""
    points = np.frombuffer(b"".join(_digests(load.replica) for load in loads), dtype="<u8")
    order = np.argsort(points, kind="stable")
    return _Ring(
        endpoints=endpoints,
        replicas=tuple(load.replica for load in loads),
        loads=loads,
        points=array("Q", points[order].astype(np.uint64).tobytes()),
        owners=array("I", (order // POINTS).astype(np.uintc).tobytes()),
        total=sum(load.in_flight for load in loads),
    )


def _digests(replica: str) -> bytes:
    """Return the replica's points, 8 bytes each, which depend on nothing else."""
    # A digest has 64 bytes, which are 8 points.
    hashes = (blake2b(f"{replica}/{number}".encode()).digest() for number in range(POINTS // _POINTS_A_HASH))
    return b"".join(hashes)
