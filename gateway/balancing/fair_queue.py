"""The requests of one priority that wait for a pool: a fair queue over their API keys. Pure.

Start-time fair queueing (Goyal, Vin and Cheng, 1996) with requests of equal size: every key has a start tag that grows
by one with each of its turns, and the lowest tag has the next turn. A key that begins to wait starts at the tag of the
last turn, so that it is owed nothing for the time when it did not wait.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from registry.states import Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who wants to begin, how urgent the request is, and until when its answer is of use."""

    key: str
    """Id of the API key; empty without one."""
    priority: Priority
    deadline: float
    """Monotonic seconds."""


class Stage(Enum):
    """How far a request has come in its pool."""

    WAITING = auto()
    RUNNING = auto()
    DEPARTED = auto()


@dataclass(slots=True, eq=False)
class Ticket:
    """The place of a request in its pool, from `Admission.enter` to `Admission.leave`."""

    pool: str
    claim: Claim
    on_turn: Callable[[], None]
    """Called when the request may begin, unless that was so when `enter` returned."""
    on_expired: Callable[[], None]
    """Called when the deadline passed before the turn came."""
    stage: Stage = Stage.WAITING

    @property
    def is_running(self) -> bool:
        """True from the request's turn until it leaves."""
        return self.stage is Stage.RUNNING


@dataclass(slots=True, eq=False)
class _Flow:
    """The waiting requests of one key; `tag` is the start tag of the first."""

    tag: float
    tickets: deque[Ticket] = field(default_factory=deque)


class FairQueue:
    """Waiting requests whose keys have turns in equal number."""

    def __init__(self) -> None:
        self.tag = 0.0
        """The queue's own start tag among the priorities."""
        self.count = 0
        self._flows: dict[str, _Flow] = {}
        self._heads: list[tuple[float, int, str]] = []
        """A heap of tags, in order of entry, and keys; one entry for each flow."""
        self._clock = 0.0
        self._entries = 0

    def waiting_of(self, key: str) -> int:
        """Return how many of the key's requests wait here."""
        flow = self._flows.get(key)
        return 0 if flow is None else len(flow.tickets)

    def ahead_of_next(self, key: str) -> int:
        """Return how many of the waiting requests go before one that the key would add now."""
        flow = self._flows.get(key)
        # The key's next request would have this tag. Another key's requests have its tag, one more, and so on; those up
        # to the same tag are counted as ahead.
        tag = self._clock if flow is None else flow.tag + len(flow.tickets)
        return sum(
            len(other.tickets) if other is flow else min(len(other.tickets), max(0, int(tag - other.tag) + 1))
            for other in self._flows.values()
        )

    def add(self, ticket: Ticket) -> None:
        """Let the request wait behind those of its key."""
        flow = self._flows.get(ticket.claim.key)
        if flow is None:
            flow = self._flows[ticket.claim.key] = _Flow(tag=self._clock)
            self._push(ticket.claim.key, flow)
        flow.tickets.append(ticket)
        self.count += 1

    def pop_next(self) -> Ticket:
        """Remove and return the request whose turn it is."""
        while True:
            _, _, key = heapq.heappop(self._heads)
            flow = self._flows[key]
            if flow.tickets:
                break
            del self._flows[key]  # a flow whose requests all had their turn or gave up stays in the heap until here
        ticket = flow.tickets.popleft()
        self._clock = flow.tag
        # A flow without requests stays until its tag comes up: a key that asks again at once gains no turn by that.
        flow.tag += 1.0
        self._push(key, flow)
        self.count -= 1
        self._reset_if_empty()
        return ticket

    def remove(self, ticket: Ticket) -> None:
        """Remove a request that gives up; those behind it move up."""
        self._flows[ticket.claim.key].tickets.remove(ticket)
        self.count -= 1
        self._reset_if_empty()

    def overdue(self, now: float) -> list[Ticket]:
        """Return the requests whose deadline is past."""
        return [ticket for flow in self._flows.values() for ticket in flow.tickets if ticket.claim.deadline <= now]

    def _push(self, key: str, flow: _Flow) -> None:
        self._entries += 1
        heapq.heappush(self._heads, (flow.tag, self._entries, key))

    def _reset_if_empty(self) -> None:
        """Start anew when no request waits: no key is owed anything then."""
        if self.count == 0:
            self._flows.clear()
            self._heads.clear()
            self._clock = 0.0
