"""The replicas of a base model and how much each has been given, while one revision after another gets seats. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from itertools import islice
from math import ceil
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

NO_BOUNDS: Final[Mapping[str, int]] = MappingProxyType({})
SHARE_MARGIN: Final = 1.25
"""How far above its share of traffic, or of revisions, a replica may be before the next in the order is taken."""
_LIGHT: Final = 1 / 8
"""The part of a replica's share of the traffic below which a copy is assumed to go wherever it goes without harm."""
_WALK: Final = 16
"""How far down its order a revision looks for a replica with room, if the first ones have none."""
_SCORES_AT_ONCE: Final = 1_000_000
"""Scores that are computed at a time, 8 bytes each."""


@dataclass(frozen=True, slots=True)
class Order:
    """The replicas in the order of a revision, by number: the first ones at hand, all of them when asked for."""

    first: Sequence[int]
    whole: Callable[[], Sequence[int]]

    def upto(self, count: int) -> Sequence[int]:
        """Return the first *count* of them at least."""
        return self.first if count <= len(self.first) else self.whole()

    def __iter__(self) -> Iterator[int]:
        """Go through all of them."""
        yield from self.first
        yield from islice(self.whole(), len(self.first), None)


class Field:
    """Replicas with places for adapters, the revisions that they can take, and what they were given so far."""

    def __init__(self, adapter_places: Mapping[str, int], max_ranks: Mapping[str, int]) -> None:
        """Replicas without a place are left out. A rank that no replica takes counts as one that all take.

        So its revision is tried, and its failure reported.
        """
        self.replicas = sorted(replica for replica, count in adapter_places.items() if count)
        """Ids in order; they are numbered by it below."""
        self.places = [adapter_places[replica] for replica in self.replicas]
        self._hashes = _hashes(self.replicas)
        self._weights = np.array(self.places, np.float64)
        self._given = [0] * len(self.places)
        self._seats = 0
        self._firsts = [0] * len(self.places)
        self._most_firsts = list(self.places)
        self._traffic = [0.0] * len(self.places)
        self._shares = [0.0] * len(self.places)
        self._light = 0.0
        self._max_ranks = {number: max_ranks[name] for number, name in enumerate(self.replicas) if name in max_ranks}
        self._takers: dict[int, frozenset[int]] = {}
        self._names: dict[int, frozenset[str]] = {}

    def _taking(self, rank: int) -> frozenset[int]:
        """Return the numbers of the replicas that take *rank*; of all if none does."""
        if rank not in self._takers:
            every = range(len(self.replicas))
            can = frozenset(number for number in every if self._max_ranks.get(number, rank) >= rank)
            self._takers[rank] = can or frozenset(every)
        return self._takers[rank]

    def takers(self, rank: int) -> frozenset[str]:
        """Return the ids of the replicas that may get a revision of *rank*."""
        if rank not in self._names:
            self._names[rank] = frozenset(self.replicas[number] for number in self._taking(rank))
        return self._names[rank]

    def expect(self, revisions: int, traffic: Sequence[float]) -> None:
        """Take note of how many *revisions* want a first seat, and of the *traffic* of each copy that there will be."""
        places = max(1, sum(self.places))
        if revisions > places:
            self._most_firsts = [ceil(SHARE_MARGIN * revisions * count / places) for count in self.places]
        self._light = _LIGHT * sum(traffic) / max(1, len(self.places))
        light = sum(each for each in traffic if each < self._light)
        self._shares = [(SHARE_MARGIN * sum(traffic) - light) * count / places for count in self.places]

    def orders(self, served_names: Sequence[str]) -> Iterator[Order]:
        """Yield for each name the replicas in its order, by weighted rendezvous hashing.

        The score of a pair is `-weight / ln(u)` (Schindelhauer and Schomaker), u a hash of both in (0, 1).
        """
        walk = min(_WALK, len(self.replicas))
        rows = max(1, _SCORES_AT_ONCE // len(self.replicas))
        for start in range(0, len(served_names), rows):
            names = served_names[start : start + rows]
            scores = self._scores(names)
            best = np.argpartition(scores, walk - 1, axis=1)[:, :walk]
            ranked = np.take_along_axis(best, np.argsort(np.take_along_axis(scores, best, 1), 1, kind="stable"), 1)
            for name, first in zip(names, ranked.tolist(), strict=True):
                yield Order(first, partial(self._whole_order, name))

    def _scores(self, served_names: Sequence[str]) -> NDArray[Any]:
        """Return a row for each name with the score of each replica, the best one the lowest."""
        mixed = _mixed(_hashes(served_names)[:, None] ^ self._hashes[None, :])
        # The hash is moved off 0 and 1, where the logarithm does not exist or is 0.
        scores: NDArray[Any] = self._weights / np.log(((mixed >> np.uint64(12)) + 0.5) * 2.0**-52)
        return scores

    def _whole_order(self, served_name: str) -> Sequence[int]:
        order: list[int] = np.argsort(self._scores([served_name])[0], kind="stable").tolist()
        return order

    def first_seat(self, rank: int, traffic: float, order: Order, *, where_room: bool) -> int:
        """Return the replica of a revision's first copy, which counts as given.

        That is the first in its order that has not its share of first copies and of traffic yet. *where_room*: one
        that has a place left goes before.
        """
        takers = self._taking(rank)
        near: list[int] = []
        for number in order:
            if number in takers and self._firsts[number] < self._most_firsts[number]:
                near.append(number)
                if (not where_room or self._has_room(number)) and self._fits(number, traffic):
                    break
                if len(near) == _WALK:
                    break
        # Without a replica that has all of it, what counts is first the place, then the traffic, then the order.
        best = min(near, key=lambda each: self._lacks(each, traffic, where_room), default=None)
        number = next(each for each in order if each in takers) if best is None else best
        self._firsts[number] += 1
        self._give(number, traffic)
        return number

    def further_seats(self, rank: int, traffic: float, copies: int, order: Order, has: Collection[int]) -> list[int]:
        """Return replicas for *copies* more of a revision beside those that it *has*, which count as given.

        Those with a place left go first, and among them those that have not their share of the traffic yet.
        """
        takers = self._taking(rank)
        found: list[int] = []
        others: list[int] = []
        for number in order.upto(2 * (copies + len(has))):
            if number in takers and number not in has:
                others.append(number)
                if self._has_room(number) and self._fits(number, traffic):
                    found.append(number)
                    if len(found) == copies:
                        break
        if len(found) < copies:
            found = sorted(others, key=lambda each: self._lacks(each, traffic, where_room=True))[:copies]
        for number in found:
            self._give(number, traffic)
        return found

    def _lacks(self, number: int, traffic: float, where_room: bool) -> tuple[bool, bool]:
        return where_room and not self._has_room(number), not self._fits(number, traffic)

    def _has_room(self, number: int) -> bool:
        return self._given[number] < self.places[number]

    @property
    def has_room(self) -> bool:
        """Whether fewer seats were given than there are places."""
        return self._seats < sum(self.places)

    def _fits(self, number: int, traffic: float) -> bool:
        return traffic < self._light or self._traffic[number] + traffic <= self._shares[number]

    def _give(self, number: int, traffic: float) -> None:
        self._given[number] += 1
        self._seats += 1
        if traffic >= self._light:
            self._traffic[number] += traffic


def _hashes(names: Sequence[str]) -> NDArray[np.uint64]:
    digests = b"".join(blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the values with their bits mixed, by the last step of SplitMix64 (Steele, Lea and Flood)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
