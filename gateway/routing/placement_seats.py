"""Seats of revisions in replicas, and which of them a replica has places for. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice
from math import ceil
from typing import Final

from gateway.routing.placement_field import NO_BOUNDS, Field, Order
from registry.types import Revision

REQUESTS_PER_COPY: Final = 8
"""Requests at a time that one copy of a revision is counted on for, where adapters outnumber places."""
LEAST_COPIES: Final = 2
"""Copies of a revision that callers are routed to, so that it survives the death of one replica."""
_POPULAR: Final = 2
"""Requests at a time from which on a revision's copies go before the first copies of those with fewer."""


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
    demand: float = 0.0
    """Requests at a time as they were counted, by which those of equal traffic are ordered."""
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
    def order(self) -> tuple[bool, float, bool, bool, int, bool, int, float, float, str]:
        """The key by which the most needed revision comes first."""
        is_awaited = self.awaited_since is not None
        is_first = self.is_busy and self.rank == 0
        since = self.awaited_since or 0.0
        # Of those that are in use, the busiest stay; of the others, the last used.
        needed = (not self.in_rollout, -self.traffic, -self.demand, -self.recency)
        return not is_awaited, since, not is_first, not self.is_busy, self.rank, *needed, self.name

    @property
    def firm_copies(self) -> int:
        """The number of replicas that its requests need."""
        return max(LEAST_COPIES if self.traffic >= _POPULAR else 1, ceil(self.traffic / REQUESTS_PER_COPY))

    @property
    def copies(self) -> int:
        """The least number of replicas that the revision should be on."""
        return max(LEAST_COPIES if self.rank == 0 else 1, ceil(self.traffic / REQUESTS_PER_COPY))


class SeatClass(IntEnum):
    """Which seats of a replica go before which, where places are short."""

    AWAITED = 0  # requests wait for it, and no replica has it
    ROLLOUT = 1  # a side of an open rollout
    POPULAR = 2  # a copy that many requests need
    FIRST = 3  # the first copy of what callers are routed to or ask for
    FURTHER = 4  # another copy of what callers are routed to, for the death of a replica
    IDLE = 5  # the only copy of what nobody is routed to and nobody asks for
    SPARE = 6  # a copy in a place that nothing else needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Which replicas each revision has seats in; a replica keeps what is needed most of those in it."""

    needs: Mapping[str, Need]
    """By served name, the most needed first."""
    places: Mapping[str, int]
    """The number of places of each replica."""
    takers: Mapping[int, frozenset[str]]
    """LoRA rank -> ids of the replicas that take it."""
    seats: Mapping[str, Mapping[str, SeatClass]]
    """Replica -> served name of each revision that belongs there -> its class."""
    homes: Mapping[str, frozenset[str]]
    """Served name -> ids of the replicas that it must be on."""

    def wanted_in(self, replica: str, loaded: Collection[str] = ()) -> list[Need]:
        """Return what the replica should have, the most needed first, as many as it has places.

        Of revisions that are needed alike, those that it has *loaded* stay: what a change of demand takes from a
        replica and gives back a minute later is still there.
        """
        seats, places = self.seats.get(replica, {}), self.places.get(replica, 0)
        held = {name: seats.get(name, SeatClass.SPARE) for name in {*seats, *loaded} if name in self.needs}
        wanted = [self.needs[name] for name in _ordered(held, self.needs, loaded)[:places]]
        rest = (need for need in self.needs.values() if need.rank == 0 and need.name not in held)
        spare = (need for need in rest if replica in self.takers[need.revision.rank])
        return [*wanted, *islice(spare, places - len(wanted))]


def place(
    needs: Sequence[Need], adapter_places: Mapping[str, int], max_ranks: Mapping[str, int] = NO_BOUNDS
) -> Placement:
    """Place *needs*, most needed first; *adapter_places* is how many adapters each replica holds, 0 for some.

    *max_ranks* has the highest LoRA rank of those replicas that have such a bound.
    """
    field = Field(adapter_places, max_ranks)
    takers = {need.revision.rank: field.takers(need.revision.rank) for need in needs}
    seats: dict[str, dict[str, SeatClass]] = {replica: {} for replica in field.replicas}
    if not field.replicas or len(needs) <= min(field.places):
        for need in needs:
            for replica in takers[need.revision.rank]:
                seats[replica][need.name] = SeatClass.FIRST
    else:
        for need, numbers in _seated(needs, field):
            for index, number in enumerate(numbers):
                seats[field.replicas[number]][need.name] = _seat_class(need, index)
    by_name = {need.name: need for need in needs}
    places = dict(zip(field.replicas, field.places, strict=True))
    homes = _homes(seats, by_name, places)
    return Placement(needs=by_name, places=places, takers=takers, seats=seats, homes=homes)


def _seated(needs: Sequence[Need], field: Field) -> list[tuple[Need, list[int]]]:
    """Return each need with the numbers of its replicas, that of its first copy first."""
    # The order in which seats are given does not change with use. Those that few replicas can take come first.
    ordered = sorted(needs, key=lambda need: (need.rank > 0, len(field.takers(need.revision.rank)), need.name))
    field.expect(len(needs), [need.traffic / need.copies for need in needs for _ in range(need.copies)])
    orders = list(field.orders([need.name for need in ordered]))
    pairs = list(zip(ordered, orders, strict=True))
    routed = sum(need.rank == 0 for need in ordered)
    # Further copies of what callers are routed to go before first copies of the rest, which nobody may ever ask for.
    return [*_group_seated(pairs[:routed], field), *_group_seated(pairs[routed:], field)]


def _group_seated(pairs: Sequence[tuple[Need, Order]], field: Field) -> list[tuple[Need, list[int]]]:
    seated = []
    for need, order in pairs:
        share = need.traffic / need.copies
        seated.append((need, [field.first_seat(need.revision.rank, share, order, where_room=need.rank > 0)]))
    for (need, order), (_, numbers) in zip(pairs, seated, strict=True):
        # Where there is no place for all first copies, further ones are for those whose requests need them.
        if need.copies > 1 and (field.has_room or need.traffic >= _POPULAR):
            share, more = need.traffic / need.copies, need.copies - 1
            numbers.extend(field.further_seats(need.revision.rank, share, more, order, numbers))
    return seated


def _seat_class(need: Need, index: int) -> SeatClass:
    if need.awaited_since is not None and index == 0:
        return SeatClass.AWAITED
    if need.in_rollout:
        return SeatClass.ROLLOUT
    if need.traffic >= _POPULAR and index < need.firm_copies:
        return SeatClass.POPULAR
    if index > 0:
        return SeatClass.FURTHER
    return SeatClass.FIRST if need.rank == 0 or need.is_busy else SeatClass.IDLE


def _homes(
    seats: Mapping[str, Mapping[str, SeatClass]], needs: Mapping[str, Need], places: Mapping[str, int]
) -> dict[str, frozenset[str]]:
    """Return where each revision must be, whatever replicas have loaded by now."""
    homes: defaultdict[str, set[str]] = defaultdict(set)
    for replica, own in seats.items():
        # Where not all further copies have a place, which of them have one is up to what is loaded already.
        has_room = sum(seat <= SeatClass.FURTHER for seat in own.values()) <= places[replica]
        for name in _ordered(own, needs, own)[: places[replica]]:
            if has_room or own[name] is not SeatClass.FURTHER:
                homes[name].add(replica)
    return {name: frozenset(replicas) for name, replicas in homes.items()}


def _ordered(seats: Mapping[str, SeatClass], needs: Mapping[str, Need], loaded: Collection[str]) -> list[str]:
    """Return the names of what has a seat in a replica, the most needed first."""
    return sorted(seats, key=lambda name: (*_seat_order(needs[name], seats[name], name in loaded), *needs[name].order))


def _seat_order(need: Need, seat: SeatClass, is_loaded: bool) -> tuple[int | bool, ...]:
    """Return the first part of the key by which the most needed of what belongs in a replica comes first."""
    if seat in {SeatClass.FIRST, SeatClass.IDLE}:
        # What was not asked for of late makes room; of what was, the copy that is loaded stays.
        is_late = need.is_busy and not is_loaded
        return seat, not (need.is_busy and need.rank == 0), not need.is_busy, need.rank, is_late
    return seat, seat in {SeatClass.FURTHER, SeatClass.SPARE} and not is_loaded
