"""Who may begin now, who waits for a turn, and who is told to come again. Pure; it calls back instead of waiting.

Every pool has so much room, and a queue for what is above it. The queue is fair in two steps, each start-time fair
queueing (Goyal, Vin and Cheng, 1996): between the priorities, of which a higher one is owed far more turns than a lower
one but never all, and within a priority between the API keys, which are owed the same. Of the queue's places a key may
take as many as are still free (the dynamic threshold of Choudhury and Hahne, 1998), so a flood of one key always leaves
some for the others.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Final

from gateway.balancing.drain_rate import DrainRate
from gateway.balancing.ticket import Claim, Stage, Ticket
from gateway.errors import Overloaded
from registry.types import Priority

TURNS: Final[Mapping[Priority, int]] = {Priority.HIGH: 64, Priority.NORMAL: 8, Priority.LOW: 1}
"""How many turns each priority is owed, relative to the others, while all three wait."""
_CERTAINLY: Final = 2.0
"""A deadline will certainly pass when even at so many times the drain rate the turn would come too late."""
_LONGEST_RETRY_S: Final = 60
_UNKNOWN_RETRY_S: Final = 1
"""When to come again where nothing has left yet."""


@dataclass(slots=True, eq=False)
class _Flow:
    """The waiting requests of one key in one priority; `tag` is the start tag of the first."""

    tag: float
    tickets: deque[Ticket] = field(default_factory=deque)


class _Class:
    """The waiting requests of one priority: start-time fair queueing over its keys."""

    def __init__(self) -> None:
        self.tag = 0.0
        """Its own start tag among the priorities."""
        self.count = 0
        self._flows: dict[str, _Flow] = {}
        self._heads: list[tuple[float, int, str]] = []
        """A heap of tags, in order of entry, and keys; one entry for each flow."""
        self._clock = 0.0
        self._entries = 0

    def waiting_of(self, key: str) -> int:
        """How many of the key's requests wait here."""
        flow = self._flows.get(key)
        return 0 if flow is None else len(flow.tickets)

    def ahead_of_next(self, key: str) -> int:
        """How many of those that wait here go before one that the key would add now."""
        flow = self._flows.get(key)
        tag = self._clock if flow is None else flow.tag + len(flow.tickets)
        return sum(
            len(other.tickets) if other is flow else min(len(other.tickets), max(0, int(tag - other.tag) + 1))
            for other in self._flows.values()
        )

    def add(self, ticket: Ticket) -> None:
        """It waits behind those of its key."""
        flow = self._flows.get(ticket.claim.key)
        if flow is None:
            flow = self._flows[ticket.claim.key] = _Flow(tag=self._clock)
            self._push(ticket.claim.key, flow)
        flow.tickets.append(ticket)
        self.count += 1

    def take(self) -> Ticket:
        """The one whose turn it is."""
        while True:
            _, _, key = heapq.heappop(self._heads)
            flow = self._flows[key]
            if flow.tickets:
                break
            del self._flows[key]
        ticket = flow.tickets.popleft()
        self._clock = flow.tag
        flow.tag += 1.0
        self._push(key, flow)
        self.count -= 1
        self._rest()
        return ticket

    def remove(self, ticket: Ticket) -> None:
        """It waits no longer; those behind it move up."""
        self._flows[ticket.claim.key].tickets.remove(ticket)
        self.count -= 1
        self._rest()

    def overdue(self, now: float) -> list[Ticket]:
        """Those whose deadline is past."""
        return [ticket for flow in self._flows.values() for ticket in flow.tickets if ticket.claim.deadline <= now]

    def _push(self, key: str, flow: _Flow) -> None:
        self._entries += 1
        heapq.heappush(self._heads, (flow.tag, self._entries, key))

    def _rest(self) -> None:
        """When nobody waits, nobody is owed anything."""
        if self.count == 0:
            self._flows.clear()
            self._heads.clear()
            self._clock = 0.0


class _Pool:
    """The room of one pool and the queue before it."""

    def __init__(self) -> None:
        self.room = 0
        self.rate = DrainRate()
        self.running = 0
        self.waiting = 0
        self.classes: Mapping[Priority, _Class] = {priority: _Class() for priority in TURNS}
        self._clock = 0.0
        self._starting = False

    def resize(self, room: int) -> None:
        """It takes so many at a time."""
        if room != self.room:
            self.room = room
            self.rate.forget()

    def add(self, ticket: Ticket, now: float) -> None:
        """It waits."""
        self.rate.set_busy(True, now)
        line = self.classes[ticket.claim.priority]
        if line.count == 0:
            line.tag = max(line.tag, self._clock)
        line.add(ticket)
        self.waiting += 1

    def remove(self, ticket: Ticket) -> None:
        """It waits no longer."""
        self.classes[ticket.claim.priority].remove(ticket)
        self._one_less()

    def departed(self, now: float) -> None:
        """One that ran has left."""
        self.running -= 1
        self.rate.departed(now)

    def start(self, now: float) -> None:
        """As many as there is room for have their turn. What a turn brings about is taken up here, not within it."""
        if self._starting:
            return
        self._starting = True
        try:
            while self.waiting and self.running < self.room:
                ticket = self._next()
                self.running += 1
                ticket.stage = Stage.RUNNING
                ticket.on_turn()
        finally:
            self._starting = False
            self.rate.set_busy(self.waiting > 0, now)

    def _next(self) -> Ticket:
        """Of the priority that is owed the next turn; the higher one where two are."""
        priority = min((each for each in TURNS if self.classes[each].count), key=lambda each: self.classes[each].tag)
        line = self.classes[priority]
        self._clock = line.tag
        line.tag += 1.0 / TURNS[priority]
        ticket = line.take()
        self._one_less()
        return ticket

    def _one_less(self) -> None:
        self.waiting -= 1
        if self.waiting == 0:
            self._clock = 0.0
            for line in self.classes.values():
                line.tag = 0.0


class Admission:
    """The queues of one gateway, at most *queue_limit* requests in each."""

    def __init__(self, queue_limit: int) -> None:
        self._queue_limit = queue_limit
        self._pools: dict[str, _Pool] = {}

    def enter(  # noqa: PLR0913 - a dataclass would be made and taken apart once a request
        self,
        pool: str,
        room: int,
        claim: Claim,
        on_turn: Callable[[], None],
        on_expired: Callable[[], None],
        now: float,
    ) -> Ticket:
        """A place among those that run or wait; *on_turn* is called when it may begin, perhaps before this returns.

        *room* is how many requests of this gateway the pool takes at a time. `Overloaded`, with the time after which
        to come again, if the queue has no place for the key or the deadline would certainly pass in it.
        """
        line = self._pools.get(pool)
        if line is None:
            line = self._pools[pool] = _Pool()
        line.resize(room)
        ticket = Ticket(pool, claim, on_turn, on_expired)
        if line.running < room and not line.waiting:
            line.running += 1
            ticket.stage = Stage.RUNNING
            on_turn()
            return ticket
        self._check_place(pool, line, claim, now)
        line.add(ticket, now)
        line.start(now)
        return ticket

    def resize(self, pool: str, room: int, now: float) -> None:
        """The pool takes another number of requests now, as replicas came or went; those that wait may have a turn."""
        line = self._pools.get(pool)
        if line is not None:
            line.resize(room)
            line.start(now)

    def leave(self, ticket: Ticket, now: float) -> None:
        """It is done, failed, or gives up waiting; the next ones begin. Leaving again is nothing."""
        line = self._pools[ticket.pool]
        if ticket.stage is Stage.RUNNING:
            line.departed(now)
        elif ticket.stage is Stage.WAITING:
            line.remove(ticket)
        ticket.stage = Stage.LEFT
        line.start(now)

    def expire(self, now: float) -> None:
        """Those that wait past their deadline have left; `on_expired` of each is called."""
        for line in self._pools.values():
            if not line.waiting:
                continue
            for ticket in [each for part in line.classes.values() for each in part.overdue(now)]:
                if ticket.stage is Stage.WAITING:
                    line.remove(ticket)
                    ticket.stage = Stage.LEFT
                    ticket.on_expired()
            line.start(now)

    def waiting(self, pool: str) -> int:
        """How many requests wait for the pool."""
        line = self._pools.get(pool)
        return 0 if line is None else line.waiting

    def running(self, pool: str) -> int:
        """How many of this gateway's requests the pool has."""
        line = self._pools.get(pool)
        return 0 if line is None else line.running

    def _check_place(self, pool: str, line: _Pool, claim: Claim, now: float) -> None:
        per_s = line.rate.per_s(now)
        part = line.classes[claim.priority]
        if part.waiting_of(claim.key) >= self._queue_limit - line.waiting:
            raise Overloaded(
                f"pool {pool!r} has {line.running} requests under way and {line.waiting} waiting; come again later",
                retry_after_s=_retry_after_s(line.waiting, per_s),
            )
        ahead = part.ahead_of_next(claim.key) + 1
        if per_s is not None and now + ahead / (per_s * _CERTAINLY) > claim.deadline:
            raise Overloaded(
                f"pool {pool!r} would come to this request in about {ahead / per_s:.1f} s, after its deadline",
                retry_after_s=_retry_after_s(line.waiting, per_s),
            )


def _retry_after_s(waiting: int, per_s: float | None) -> int:
    """The time that the pool takes for those that wait now, in whole seconds."""
    if per_s is None:
        return _UNKNOWN_RETRY_S
    return max(1, min(_LONGEST_RETRY_S, ceil(waiting / per_s)))
