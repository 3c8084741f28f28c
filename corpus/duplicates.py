"""Equal and nearly equal rows of one file, and rows that two files share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from corpus.findings.shingles import PERMUTATIONS, Signatures

NEAR: Final = 0.8
"""Jaccard's similarity of two rows that are nearly equal."""
_BANDS: Final = 16

Digests = NDArray[np.uint64]
Places = NDArray[np.int64]


def equal_groups(digests: Digests) -> list[Places]:
    """Return the places of rows with equal texts, the largest groups first."""
    order = np.argsort(digests, kind="stable")
    cuts = np.flatnonzero(np.diff(digests[order])) + 1
    return _largest([np.sort(group) for group in np.split(order, cuts) if len(group) > 1])


def near_groups(signatures: Signatures, digests: Digests) -> list[Places]:
    """Return the places of rows that are nearly equal, each text once, the largest groups first.

    Rows whose signatures agree in one of 16 bands of 8 minima are compared; two rows with a similarity of 0.8 share a
    band with a probability of 95 %, two with 0.5 with 6 % (1 - (1 - s^8)^16).
    """
    firsts = np.sort(np.unique(digests, return_index=True)[1])
    leaders = _Leaders(len(signatures))
    for one, others in _candidates(signatures[firsts]):
        alike = (signatures[firsts[others]] == signatures[firsts[one]]).mean(axis=1) >= NEAR
        for other in others[alike]:
            leaders.join(int(firsts[one]), int(firsts[other]))
    return _largest(leaders.groups(firsts))


def equal_pairs(ours: Digests, theirs: Digests) -> Iterator[tuple[int, int]]:
    """Yield the place of a row of ours for each place of theirs that has the same digest."""
    order = np.argsort(ours, kind="stable")
    found = np.searchsorted(ours[order], theirs)
    for place, at in enumerate(found.tolist()):
        if at < len(ours) and ours[order[at]] == theirs[place]:
            yield int(order[at]), place


def near_pairs(ours: Signatures, theirs: Signatures) -> Iterator[tuple[int, int]]:
    """Yield for each place of theirs the place of one nearly equal row of ours, where there is one."""
    if not len(ours) or not len(theirs):
        return
    found: dict[int, int] = {}
    width = PERMUTATIONS // _BANDS
    for band in range(0, PERMUTATIONS, width):
        keys: dict[bytes, list[int]] = {}
        for place, row in enumerate(theirs[:, band : band + width]):
            if place not in found:
                keys.setdefault(row.tobytes(), []).append(place)
        # Only rows of ours whose band is among theirs are looked at, since ours may be many.
        columns = np.ascontiguousarray(ours[:, band : band + width])
        wanted = np.isin(columns[:, 0], theirs[:, band])
        for place in np.flatnonzero(wanted).tolist():
            for other in keys.get(columns[place].tobytes(), ()):
                if other not in found and (ours[place] == theirs[other]).mean() >= NEAR:
                    found[other] = place
    yield from ((place, other) for other, place in sorted(found.items()))


def _candidates(signatures: Signatures) -> Iterator[tuple[int, Places]]:
    """Yield a row with those that share a band with it."""
    width = PERMUTATIONS // _BANDS
    for band in range(0, PERMUTATIONS, width):
        columns = np.ascontiguousarray(signatures[:, band : band + width])
        keys = columns.view(np.dtype((np.void, columns.dtype.itemsize * width))).ravel()
        order = np.argsort(keys, kind="stable")
        same = np.flatnonzero(keys[order][1:] != keys[order][:-1]) + 1
        for group in np.split(order, same):
            if len(group) > 1:
                yield int(group[0]), group[1:]


class _Leaders:
    """Groups of places that are joined one pair after another."""

    def __init__(self, places: int) -> None:
        self._leader = list(range(places))

    def find(self, place: int) -> int:
        """Return the first place of the group."""
        while self._leader[place] != place:
            self._leader[place] = self._leader[self._leader[place]]
            place = self._leader[place]
        return place

    def join(self, one: int, other: int) -> None:
        """Make one group of two."""
        first, second = sorted((self.find(one), self.find(other)))
        self._leader[second] = first

    def groups(self, places: Places) -> list[Places]:
        """Return the groups of more than one place."""
        members: dict[int, list[int]] = {}
        for place in places:
            members.setdefault(self.find(int(place)), []).append(int(place))
        return [np.array(group) for group in members.values() if len(group) > 1]


def _largest(groups: list[Places]) -> list[Places]:
    return sorted(groups, key=lambda group: (-len(group), int(group[0])))
