"""Which revisions belong in which replica. Pure: everyone who reads the same registry comes to the same answer.

Where all revisions of a base model fit into each of its replicas, each has all of them. Where they do not, a revision
has copies on some replicas, chosen by rendezvous hashing weighted by capacity: each pair of revision and replica has a
score that depends on nothing else, and the highest scores win. So a replica that comes takes its share from all others
and moves nothing between them. What callers are routed to has at least two copies, more with its traffic; the rest has
one copy each, the most recently used first. Busy ones go by a replica that has its share of the traffic already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import ceil, log
from typing import Final

from registry.database import Snapshot
from registry.types import Replica, ReplicaState, Revision

REQUESTS_PER_COPY: Final = 8
"""Requests at a time that one copy of a revision is counted on for, where adapters outnumber places."""
LEAST_COPIES: Final = 2
"""Copies of what callers are routed to: one replica that dies does not take it along."""
SHARE_MARGIN: Final = 1.25
"""How far above its share of the expected traffic a replica may be before the next in the order is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """How much one revision is needed."""

    revision: Revision
    rank: int
    """0: callers are routed to it; 1: a rollback may soon route them to it; 2: by pinned name only."""
    recency: float
    """When it was last used or made; only the order of those that nobody is routed to depends on it."""
    traffic: int
    """Requests at a time, rounded up to a power of two so that noise moves nothing."""

    @property
    def name(self) -> str:
        """Its served name."""
        return self.revision.served_name

    @property
    def copies(self) -> int:
        """On how many replicas it should be at least."""
        return max(LEAST_COPIES if self.rank == 0 else 1, ceil(self.traffic / REQUESTS_PER_COPY))


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Served name -> ids of its replicas: those that it must be on, and those that have room to spare for it."""

    homes: Mapping[str, frozenset[str]]
    spares: Mapping[str, frozenset[str]]

    def holds(self, replica: str, served_name: str) -> bool:
        """Whether the revision belongs in the replica."""
        return replica in self.homes.get(served_name, ()) or replica in self.spares.get(served_name, ())


def wanted_in(snapshot: Snapshot, replica: Replica, *, warm_since: float) -> list[Revision]:
    """The revisions that belong in *replica*, most needed first.

    Former stables are kept warm if their adapter changed after *warm_since*. A ready replica has what belongs in it
    while only the ready ones count; another one what will, once all are ready. So what moves to a new replica is
    let go elsewhere only after it is ready there.
    """
    peers = _ready(snapshot, replica.base) if replica.state is ReplicaState.READY else _present(snapshot, replica.base)
    rooms = {peer.id: peer.capacity for peer in peers} | {replica.id: replica.capacity}
    wanted = needs_of(snapshot, replica.base, warm_since=warm_since)
    placement = place(wanted, rooms)
    return [need.revision for need in wanted if placement.holds(replica.id, need.name)][: replica.capacity]


def homes_of(snapshot: Snapshot, served_name: str, base: str) -> frozenset[str]:
    """Ids of the ready replicas that a revision that callers are routed to must be on before it takes traffic."""
    rooms = {peer.id: peer.capacity for peer in _ready(snapshot, base)}
    return place(needs_of(snapshot, base, warm_since=0.0), rooms).homes.get(served_name, frozenset())


def first_numbers(revisions: Iterable[Revision]) -> dict[str, int]:
    """Adapter -> the number of its first revision."""
    firsts: dict[str, int] = {}
    for revision in revisions:
        firsts[revision.adapter] = min(revision.number, firsts.get(revision.adapter, revision.number))
    return firsts


def needs_of(snapshot: Snapshot, base: str, *, warm_since: float) -> list[Need]:
    """Every ready revision of *base*, most needed first."""
    adapters = {adapter.name: adapter for adapter in snapshot.adapters if adapter.base == base}
    revisions = [revision for revision in snapshot.revisions if revision.adapter in adapters]
    routed = {f"{rollout.adapter}@{rollout.canary}" for rollout in snapshot.rollouts}
    warm = set()
    firsts = first_numbers(revisions)
    for adapter in adapters.values():
        stable = firsts.get(adapter.name) if adapter.stable is None else adapter.stable
        routed.add(f"{adapter.name}@{stable}")
        if (adapter.stable_since or 0.0) >= warm_since:
            warm.add(f"{adapter.name}@{adapter.previous_stable}")
    uses = {use.served_name: use for use in snapshot.uses}
    in_flight = _traffic(snapshot)
    traffic = {name: _rounded_up(in_flight[name]) for name in adapters}

    def need(revision: Revision) -> Need:
        use = uses.get(revision.served_name)
        is_routed = revision.served_name in routed
        return Need(
            revision=revision,
            rank=0 if is_routed else 1 if revision.served_name in warm else 2,
            recency=max(revision.created_at, use.used_at if use and not is_routed else 0.0),
            traffic=traffic[revision.adapter] if is_routed else _rounded_up(use.in_flight if use else 0),
        )

    return sorted(map(need, revisions), key=lambda need: (need.rank, -need.recency, need.name))


def place(needs: Sequence[Need], rooms: Mapping[str, int]) -> Placement:
    """Where each of *needs*, most needed first, belongs; *rooms* are the places of each replica, none in some."""
    rooms = {replica: room for replica, room in rooms.items() if room}
    everywhere = frozenset(rooms)
    if not rooms or len(needs) <= min(rooms.values()):
        return Placement(homes={need.name: everywhere for need in needs}, spares={})
    granted = _granted(needs, rooms)
    chosen = sorted(
        (need for need in needs if granted[need.name]),
        key=lambda need: (need.rank > 0, need.name),  # does not change when one of them is used
    )
    field = _Field(rooms, sum(need.traffic for need in chosen))
    homes = {need.name: field.settle(need, granted[need.name]) for need in chosen}
    spares = {need.name: field.spread(homes[need.name]) for need in chosen if need.rank == 0}
    return Placement(homes=homes, spares=spares)


def _granted(needs: Sequence[Need], rooms: Mapping[str, int]) -> dict[str, int]:
    """How many copies each gets: of what is routed all get one before any gets more, and all that before the rest."""
    left = sum(rooms.values())
    granted = dict.fromkeys((need.name for need in needs), 0)
    routed = [need for need in needs if need.rank == 0]
    for group in (routed, needs):
        for most in (1, len(rooms)):
            for need in group:
                more = min(max(0, min(need.copies, most) - granted[need.name]), left)
                granted[need.name] += more
                left -= more
    return granted


class _Field:
    """The places that are left while one revision after another takes some."""

    def __init__(self, rooms: Mapping[str, int], traffic: int) -> None:
        self._rooms = rooms
        self._left = dict(rooms)
        self._traffic = dict.fromkeys(rooms, 0.0)
        places = max(1, sum(rooms.values()))
        self._bounds = {replica: SHARE_MARGIN * traffic * room / places for replica, room in rooms.items()}

    def settle(self, need: Need, copies: int) -> frozenset[str]:
        """The replicas that it gets its copies on."""
        free = [replica for replica in self._order(need) if self._left[replica] > 0]
        idle = [replica for replica in free if self._traffic[replica] + need.traffic / copies <= self._bounds[replica]]
        busy = [replica for replica in free if replica not in set(idle)]
        return self._take([*idle, *busy][:copies], need.traffic / copies)

    def spread(self, homes: frozenset[str]) -> frozenset[str]:
        """The replicas that have room to spare for what is on *homes* already."""
        return self._take([replica for replica in self._rooms if self._left[replica] > 0 and replica not in homes], 0.0)

    def _take(self, replicas: Iterable[str], traffic: float) -> frozenset[str]:
        taken = frozenset(replicas)
        for replica in taken:
            self._left[replica] -= 1
            self._traffic[replica] += traffic
        return taken

    def _order(self, need: Need) -> list[str]:
        return sorted(self._rooms, key=lambda replica: (-_score(need.name, replica, self._rooms[replica]), replica))


def _score(served_name: str, replica: str, weight: int) -> float:
    """Weighted rendezvous hashing (Schindelhauer and Schomaker): `-weight / ln(u)` for a hash u in (0, 1)."""
    digest = blake2b(f"{served_name}/{replica}".encode(), digest_size=8).digest()
    return -weight / log((int.from_bytes(digest) + 1) / (2**64 + 1))


def _traffic(snapshot: Snapshot) -> Counter[str]:
    """Requests at a time for all revisions of each adapter: a canary may have all of them a step later."""
    counts: Counter[str] = Counter()
    for use in snapshot.uses:
        counts[use.served_name.rpartition("@")[0]] += use.in_flight
    return counts


def _rounded_up(count: int) -> int:
    return 1 << (count - 1).bit_length() if count > 0 else 0


def _ready(snapshot: Snapshot, base: str) -> list[Replica]:
    return [peer for peer in snapshot.replicas if peer.base == base and peer.state is ReplicaState.READY]


def _present(snapshot: Snapshot, base: str) -> list[Replica]:
    states = (ReplicaState.STARTING, ReplicaState.READY, ReplicaState.UNHEALTHY)
    return [peer for peer in snapshot.replicas if peer.base == base and peer.state in states]
