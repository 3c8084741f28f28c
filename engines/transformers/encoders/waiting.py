"""Texts that wait for a forward pass, and which of them the next pass takes. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple


class TokenRow(NamedTuple):
    """A text, or a pair of texts, as the model reads it."""

    ids: list[int]
    types: list[int] | None = None
    """Which text of a pair each token is of; None for one text."""


class WaitingText(NamedTuple):
    """A text of a request; texts are in the order of their lengths."""

    length: int
    request: int
    place: int
    """Place of the text in its request."""


def _length(text: WaitingText) -> int:
    return text.length


@dataclass(frozen=True, slots=True)
class _Open:
    """A request some of whose texts wait."""

    rows: Sequence[TokenRow]
    left: dict[int, None]
    """Places of the texts that wait, the longest first."""


class WaitingTexts:
    """The texts of all requests; passes share them, and requests take turns."""

    def __init__(self, pass_tokens: int) -> None:
        """A pass has at most *pass_tokens*, padding among them, or a single text that is longer."""
        self._pass_tokens = pass_tokens
        self._numbers = count()
        self._open: dict[int, _Open] = {}
        self._turns: deque[int] = deque()
        self._sorted: list[WaitingText] = []

    @property
    def requests(self) -> int:
        """Number of the requests that have texts waiting."""
        return len(self._open)

    def add(self, rows: Sequence[TokenRow]) -> int:
        """Let the texts wait, one at least; return the number of their request."""
        number = next(self._numbers)
        longest_first = sorted(range(len(rows)), key=lambda index: -len(rows[index].ids))
        self._open[number] = _Open(rows, dict.fromkeys(longest_first))
        self._turns.append(number)
        self._sorted += [WaitingText(len(row.ids), number, index) for index, row in enumerate(rows)]
        self._sorted.sort()  # two sorted runs, which Python's sort merges
        return number

    def drop(self, request: int) -> None:
        """Forget the texts of *request* that still wait."""
        if self._open.pop(request, None) is not None:
            self._turns.remove(request)
            self._sorted = [text for text in self._sorted if text.request != request]

    def next_pass(self) -> list[tuple[WaitingText, TokenRow]]:
        """Take the texts of the next pass, none if none waits.

        The request whose turn it is brings its longest text. Texts of any request that are as long or a little shorter
        fill the pass, so that little of it is padding. A request of a few texts waits for one pass of each other
        request, however many texts those have.
        """
        if not self._turns:
            return []
        turn = self._turns.popleft()
        self._turns.append(turn)
        first = next(iter(self._open[turn].left))
        head = WaitingText(len(self._open[turn].rows[first].ids), turn, first)
        place = bisect_left(self._sorted, head)
        room = max(1, self._pass_tokens // head.length)
        # Of those behind it that are as long, the head is never left out.
        end = min(place + room, bisect_right(self._sorted, head.length, key=_length))
        begin = max(0, end - room)
        taken = self._sorted[begin:end]
        del self._sorted[begin:end]
        return [(text, self._taken(text)) for text in taken]

    def _taken(self, text: WaitingText) -> TokenRow:
        request = self._open[text.request]
        del request.left[text.place]
        if not request.left:
            del self._open[text.request]
            self._turns.remove(text.request)
        return request.rows[text.place]
