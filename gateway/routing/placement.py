"""Which revisions belong in which replica. Pure: every process that reads the same registry gets the same placement.

Where all revisions of a base model fit into each of its replicas, each has all of them. Where they do not, a revision
has seats in some replicas, by rendezvous hashing weighted by capacity: each pair of revision and replica has a score
that depends on nothing else, and the highest scores win. So a new replica gets its share from all others and moves
nothing between them. A replica gets no revision of a higher rank than it takes, passes on what is above its share, and
keeps of what has a seat in it what is needed most. The first seat does not follow demand, so an adapter that is needed
again is loaded where it was, and nothing else moves. Popular revisions have more seats, as many as their requests need.

Where places are short, a revision that requests wait for goes first, whoever they name it by: so every name is answered
at some time. What had no request for some minutes makes room first, routed or not, unless a rollout of it is open. Of
what is needed alike, what is loaded already stays: without that, noise in the demand would load adapters all the time
(`python -m studies.placement.simulation`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from operator import attrgetter
from typing import Final

from gateway.routing.placement_seats import Need, Placement, place
from registry.database import Snapshot
from registry.states import ReplicaState, SlotState
from registry.types import Replica, Revision

_LOADED: Final = frozenset({SlotState.PROVING, SlotState.READY})
"""States of slots whose adapter has a place in the engine."""


def wanted_in(snapshot: Snapshot, replica: Replica, *, warm_since: float) -> list[Revision]:
    """Return the revisions that belong in *replica*, most needed first.

    Former stables are kept warm if their adapter changed after *warm_since*. For a ready replica only the ready ones
    count; for another one all that will be ready. So a revision that moves to a new replica is unloaded elsewhere only
    after it is ready there.
    """
    peers = _ready(snapshot, replica.base) if replica.state is ReplicaState.READY else _present(snapshot, replica.base)
    wanted = needs_of(snapshot, replica.adapter_base, warm_since=warm_since)
    placement = _placed(wanted, [*peers, replica])
    loaded = {slot.served_name for slot in replica.slots if slot.state in _LOADED}
    return [need.revision for need in placement.wanted_in(replica.id, loaded)]


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

    def need(revision: Revision) -> Need:
        use = uses.get(revision.served_name)
        is_routed = revision.served_name in routed
        demand = in_flight[revision.adapter] if is_routed else use.in_flight if use else 0.0
        busy = _rounded_up(demand)
        # The last use of what is in use changes all the time, and must not decide who keeps a place.
        used_at = use.used_at if use and not (is_routed and busy) else 0.0
        return Need(
            revision=revision,
            rank=0 if is_routed else 1 if revision.served_name in warm else 2,
            recency=max(revision.created_at, used_at),
            traffic=busy,
            demand=demand,
            awaited_since=use.awaited_since if use else None,
            in_rollout=revision.served_name in rolling,
        )

    return sorted(map(need, [*revisions, *(each for each in used if each.base == base)]), key=attrgetter("order"))


def _traffic(snapshot: Snapshot) -> Mapping[str, float]:
    """Return each adapter's requests at a time over all revisions: a canary may have all of them a step later."""
    counts: defaultdict[str, float] = defaultdict(float)
    for use in snapshot.uses:
        counts[use.served_name.rpartition("@")[0]] += use.in_flight
    return counts


def _rounded_up(demand: float) -> int:
    return 1 << (ceil(demand) - 1).bit_length() if demand > 0 else 0


def _ready(snapshot: Snapshot, base: str) -> list[Replica]:
    return [peer for peer in snapshot.replicas if peer.base == base and peer.state is ReplicaState.READY]


def _present(snapshot: Snapshot, base: str) -> list[Replica]:
    states = (ReplicaState.STARTING, ReplicaState.READY, ReplicaState.UNHEALTHY)
    return [peer for peer in snapshot.replicas if peer.base == base and peer.state in states]
