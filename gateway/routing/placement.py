"""Which revisions belong in which replica. Pure: every process that reads the same registry gets the same placement.

Where all revisions of a base model fit into each of its replicas, each has all of them. Where they do not, a revision
has copies on some replicas, chosen by rendezvous hashing weighted by capacity: each pair of revision and replica has a
score that depends on nothing else, and the highest scores win. So a new replica gets its share from all others and
moves nothing between them. A replica gets no revision of a higher rank than it takes. A revision that callers are
routed to has at least two copies, more with its traffic; each other one has one copy, the most recently used first. A
busy revision passes over replicas that have their share of the traffic already.

Where places are short, a revision that requests wait for goes first, whoever they name it by: so every name is answered
at some time. What had no request for a minute makes room first, routed or not, unless a rollout of it is open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from operator import attrgetter
from typing import Final

from gateway.routing.placement_field import NO_BOUNDS, Field
from registry.database import Snapshot
from registry.types import Replica, ReplicaState, Revision

REQUESTS_PER_COPY: Final = 8
"""Requests at a time that one copy of a revision is counted on for, where adapters outnumber places."""
LEAST_COPIES: Final = 2
"""Copies of a revision that callers are routed to, so that it survives the death of one replica."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """How much one revision is needed."""

    revision: Revision
    rank: int
    """0: callers are routed to it; 1: a rollback may soon route them to it; 2: by pinned name only."""
    recency: float
    """When it was last used or made; of what callers are routed to and use at present, when it was made."""
    traffic: int
    """Requests at a time, rounded up to a power of two so that noise moves nothing."""
    awaited_since: float | None = None
    """Since when requests have waited for it, which no replica had; None if none do."""
    in_rollout: bool = False
    """Whether it is a side of an open rollout, which needs both however few requests come."""

    @property
    def name(self) -> str:
        """Served name of the revision."""
        return self.revision.served_name

    @property
    def is_busy(self) -> bool:
        """Whether it must not make room for what nobody asks for."""
        return self.in_rollout or self.traffic > 0

    @property
    def order(self) -> tuple[bool, float, bool, bool, int, bool, int, float, str]:
        """The key by which the most needed revision comes first."""
        is_awaited = self.awaited_since is not None
        is_first = self.is_busy and self.rank == 0
        since = self.awaited_since or 0.0
        # Of those that are in use, the busiest stay; of the others, the last used.
        needed = (not self.in_rollout, -self.traffic, -self.recency)
        return not is_awaited, since, not is_first, not self.is_busy, self.rank, *needed, self.name

    @property
    def copies(self) -> int:
        """The least number of replicas that the revision should be on."""
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
    """Return the revisions that belong in *replica*, most needed first.

    Former stables are kept warm if their adapter changed after *warm_since*. For a ready replica only the ready ones
    count; for another one all that will be ready. So a revision that moves to a new replica is unloaded elsewhere only
    after it is ready there.
    """
    peers = _ready(snapshot, replica.base) if replica.state is ReplicaState.READY else _present(snapshot, replica.base)
    wanted = needs_of(snapshot, replica.adapter_base, warm_since=warm_since)
    placement = _placed(wanted, [*peers, replica])
    return [need.revision for need in wanted if placement.holds(replica.id, need.name)][: replica.capacity]


def homes_of(snapshot: Snapshot, served_name: str, base: str) -> frozenset[str]:
    """Return the ids of the ready replicas that a routed revision must be on before it takes traffic."""
    placement = _placed(needs_of(snapshot, base, warm_since=0.0), deciding_replicas(snapshot, base))
    return placement.homes.get(served_name, frozenset())


def _placed(needs: Sequence[Need], replicas: Iterable[Replica]) -> Placement:
    by_id = {replica.id: replica for replica in replicas}
    adapter_places = {name: replica.capacity for name, replica in by_id.items()}
    max_ranks = {name: replica.max_rank for name, replica in by_id.items() if replica.max_rank}
    return place(needs, adapter_places, max_ranks)


def deciding_replicas(snapshot: Snapshot, base: str) -> list[Replica]:
    """Return the ready replicas on which revisions of *base* must be: those of *base* itself.

    Where there is none, those that serve its adapters on weights that were quantized from it. Beside replicas of the
    base itself these decide nothing, because an adapter may fail its proof there and be right on its own base.
    """
    ready = [peer for peer in snapshot.replicas if peer.adapter_base == base and peer.state is ReplicaState.READY]
    return [peer for peer in ready if peer.base == base and peer.capacity] or ready


def first_numbers(revisions: Iterable[Revision]) -> dict[str, int]:
    """Return for each adapter the number of its first revision."""
    firsts: dict[str, int] = {}
    for revision in revisions:
        firsts[revision.adapter] = min(revision.number, firsts.get(revision.adapter, revision.number))
    return firsts


def needs_of(snapshot: Snapshot, base: str, *, warm_since: float) -> list[Need]:
    """Return every ready revision of *base*, most needed first."""
    adapters = {adapter.name: adapter for adapter in snapshot.adapters if adapter.base == base}
    revisions = [revision for revision in snapshot.revisions if revision.adapter in adapters]
    uses = {use.served_name: use for use in snapshot.uses}
    # A checkpoint is loaded when somebody asks for it: each replay of a fingerprint takes time from the others.
    used = [each for each in snapshot.checkpoints if each.served_name in uses and each.is_served]
    rolling = {
        f"{rollout.adapter}@{number}" for rollout in snapshot.rollouts for number in (rollout.canary, rollout.stable)
    }
    routed = {f"{rollout.adapter}@{rollout.canary}" for rollout in snapshot.rollouts}
    warm = set()
    firsts = first_numbers(revisions)
    for adapter in adapters.values():
        # An adapter's first revision counts as routed before it is stable, since it becomes stable by being loaded.
        stable = firsts.get(adapter.name) if adapter.stable is None else adapter.stable
        routed.add(f"{adapter.name}@{stable}")
        if (adapter.stable_since or 0.0) >= warm_since:
            warm.add(f"{adapter.name}@{adapter.previous_stable}")
    in_flight = _traffic(snapshot)
    traffic = {name: _rounded_up(in_flight[name]) for name in adapters}

    def need(revision: Revision) -> Need:
        use = uses.get(revision.served_name)
        is_routed = revision.served_name in routed
        busy = traffic[revision.adapter] if is_routed else _rounded_up(use.in_flight if use else 0)
        # The last use of what is in use changes all the time, and must not decide who keeps a place.
        used_at = use.used_at if use and not (is_routed and busy) else 0.0
        return Need(
            revision=revision,
            rank=0 if is_routed else 1 if revision.served_name in warm else 2,
            recency=max(revision.created_at, used_at),
            traffic=busy,
            awaited_since=use.awaited_since if use else None,
            in_rollout=revision.served_name in rolling,
        )

    return sorted(map(need, [*revisions, *(each for each in used if each.base == base)]), key=attrgetter("order"))


def place(
    needs: Sequence[Need], adapter_places: Mapping[str, int], max_ranks: Mapping[str, int] = NO_BOUNDS
) -> Placement:
    """Place *needs*, most needed first; *adapter_places* is how many adapters each replica holds, 0 for some.

    *max_ranks* has the highest LoRA rank of those replicas that have such a bound.
    """
    field = Field(adapter_places, max_ranks)
    if not field.replicas or len(needs) <= min(field.places):
        return Placement(homes={need.name: field.takers(need.revision.rank) for need in needs}, spares={})
    granted = _granted(needs, field)
    chosen = sorted(
        (need for need in needs if granted[need.name]),
        # Those that few replicas can take come first. The order does not change when one of them is used.
        key=lambda need: (need.rank > 0, len(field.takers(need.revision.rank)), need.name),
    )
    field.expect(sum(need.traffic for need in chosen))
    orders = field.orders([need.name for need in chosen])
    homes = {
        need.name: field.place(need, granted[need.name], order) for need, order in zip(chosen, orders, strict=True)
    }
    spares = {need.name: field.spread(need, homes[need.name]) for need in chosen if need.rank == 0}
    return Placement(homes=homes, spares=spares)


def _granted(needs: Sequence[Need], field: Field) -> dict[str, int]:
    """Return each one's number of copies.

    Revisions that are awaited, busy or routed get one each, then routed ones get further copies, both before the rest.
    """
    granted = dict.fromkeys((need.name for need in needs), 0)
    routed = [need for need in needs if need.rank == 0]
    firm = [need for need in needs if need.rank == 0 or need.is_busy or need.awaited_since is not None]
    every = len(field.replicas)
    for group, most in ((firm, 1), (routed, every), (needs, 1), (needs, every)):
        for need in group:
            copies = min(need.copies, most, len(field.takers(need.revision.rank)))
            granted[need.name] += field.grant(need.revision.rank, copies - granted[need.name])
    return granted


def _traffic(snapshot: Snapshot) -> Counter[str]:
    """Return each adapter's requests at a time over all revisions: a canary may have all of them a step later."""
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
