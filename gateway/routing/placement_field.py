"""The places of replicas, while one revision after another gets some. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

NO_BOUNDS: Final[Mapping[str, int]] = MappingProxyType({})
SHARE_MARGIN: Final = 1.25
"""How far above its share of the expected traffic a replica may be before the next in the order is taken."""
_SCORES_AT_ONCE: Final = 1_000_000
"""Scores that are computed at a time, 8 bytes each."""


class _Ranked(Protocol):
    """The part of a revision that decides which replicas can take it."""

    @property
    def rank(self) -> int: ...


class _Placed(Protocol):
    """The part of a need that decides where it goes."""

    @property
    def traffic(self) -> int: ...

    @property
    def revision(self) -> _Ranked: ...


class Field:
    """Replicas with their places: how many copies can be granted, and then which replicas they go to."""

    def __init__(self, adapter_places: Mapping[str, int], max_ranks: Mapping[str, int]) -> None:
        """Replicas without a place are left out. A rank that no replica takes counts as one that all take.

        So its revision is tried, and its failure reported.
        """
        self.replicas = sorted(replica for replica, count in adapter_places.items() if count)
        """Ids in order; they are numbered by it below."""
        self.places = [adapter_places[replica] for replica in self.replicas]
        self._remaining = list(self.places)
        self._open = {number: None for number in range(len(self.places))}
        """Numbers of the replicas with a free place, in order."""
        self._traffic = [0.0] * len(self.places)
        self._bounds = [0.0] * len(self.places)
        self._bounded = {number: max_ranks[name] for number, name in enumerate(self.replicas) if name in max_ranks}
        self._takers: dict[int, frozenset[int]] = {}
        self._names: dict[int, frozenset[str]] = {}
        self._budgets = {bound: sum(self.places[number] for number in self._taking(bound)) for bound in self._steps()}

    def _steps(self) -> set[int]:
        """Return the ranks above which fewer replicas are left, each plus one, and 0."""
        return {0, *(bound + 1 for bound in self._bounded.values())}

    def _taking(self, rank: int) -> frozenset[int]:
        """Return the numbers of the replicas that take *rank*, which may be none."""
        if rank not in self._takers:
            can = (number for number in range(len(self.replicas)) if self._bounded.get(number, rank) >= rank)
            self._takers[rank] = frozenset(can)
        return self._takers[rank]

    def _counted(self, rank: int) -> int:
        return rank if self._taking(rank) else 0

    def takers(self, rank: int) -> frozenset[str]:
        """Return the ids of the replicas that may get a revision of *rank*."""
        counted = self._counted(rank)
        if counted not in self._names:
            self._names[counted] = frozenset(self.replicas[number] for number in self._taking(counted))
        return self._names[counted]

    def grant(self, rank: int, copies: int) -> int:
        """Return how many of *copies* more can be granted to a revision of *rank*, which are then taken."""
        # Replicas that take a rank take every lower one too: each such group of replicas has a budget of its own.
        steps = [step for step in self._budgets if step <= self._counted(rank)]
        more = max(0, min(copies, *(self._budgets[step] for step in steps)))
        for step in steps:
            self._budgets[step] -= more
        return more

    def expect(self, traffic: int) -> None:
        """Take *traffic* as what all revisions together will bring; each replica's share is by its places."""
        places = max(1, sum(self.places))
        self._bounds = [SHARE_MARGIN * traffic * count / places for count in self.places]

    def orders(self, served_names: Sequence[str]) -> Iterator[NDArray[Any]]:
        """Yield for each name the numbers of the replicas in its order, by weighted rendezvous hashing.

        The score of a pair is `-weight / ln(u)` (Schindelhauer and Schomaker), u a hash of both in (0, 1).
        """
        replicas, weights = _hashes(self.replicas), np.array(self.places, np.float64)
        rows = max(1, _SCORES_AT_ONCE // len(self.replicas))
        for start in range(0, len(served_names), rows):
            names = _hashes(served_names[start : start + rows])
            # The hash is moved off 0 and 1, where the logarithm does not exist or is 0.
            uniform = ((_mixed(names[:, None] ^ replicas[None, :]) >> np.uint64(12)) + 0.5) * 2.0**-52
            yield from np.argsort(weights / np.log(uniform), axis=1, kind="stable")

    def place(self, need: _Placed, copies: int, order: NDArray[Any]) -> frozenset[str]:
        """Return the replicas that get a copy: the first in *order* that are free and not above their share."""
        takers = self._taking(self._counted(need.revision.rank))
        # A revision's requests are assumed to spread evenly over its copies.
        each = need.traffic / copies
        idle: list[int] = []
        busy: list[int] = []
        for number in order.tolist():
            if number in self._open and number in takers:
                (idle if self._traffic[number] + each <= self._bounds[number] else busy).append(number)
                if len(idle) == copies:
                    break
        return self._occupy([*idle, *busy][:copies], each)

    def spread(self, need: _Placed, homes: frozenset[str]) -> frozenset[str]:
        """Return the replicas with places to spare for a revision that is on *homes* already."""
        takers = self._taking(self._counted(need.revision.rank))
        return self._occupy([n for n in self._open if n in takers and self.replicas[n] not in homes], 0.0)

    def _occupy(self, numbers: Iterable[int], traffic: float) -> frozenset[str]:
        taken = list(numbers)
        for number in taken:
            self._remaining[number] -= 1
            self._traffic[number] += traffic
            if not self._remaining[number]:
                del self._open[number]
        return frozenset(self.replicas[number] for number in taken)


def _hashes(names: Sequence[str]) -> NDArray[np.uint64]:
    digests = b"".join(blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the values with their bits mixed, by the last step of SplitMix64 (Steele, Lea and Flood)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
