"""Who may begin now, who waits for a turn, and who is refused. Pure: later turns are reported by calls.

Every pool has room for so many requests of a gateway, and a queue for more. The queue is fair in two steps, each
start-time fair queueing: between the priorities, of which a higher one is owed far more turns than a lower one but
never all, and within a priority between the API keys, which are owed the same (`fair_queue`). A key may hold as many
places of the queue as are still free (the dynamic threshold of Choudhury and Hahne, 1998), so a flood of one key always
leaves some for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil
from typing import Final

from gateway.balancing.drain_rate import DrainRate
from gateway.balancing.fair_queue import Claim, FairQueue, Stage, Ticket
from gateway.errors import Overloaded
from registry.states import Priority

TURNS: Final[Mapping[Priority, int]] = {Priority.HIGH: 64, Priority.NORMAL: 8, Priority.LOW: 1}
"""How many turns each priority is owed, relative to the others, while all three wait."""
_CERTAINLY: Final = 2.0
"""A deadline will certainly pass when even at so many times the drain rate the turn would come too late."""
_LONGEST_RETRY_S: Final = 60
_UNKNOWN_RETRY_S: Final = 1
"""When to retry while the drain rate is unknown, as no request has departed yet."""


class _Pool:
    """The room of one pool and the queue before it."""

    def __init__(self) -> None:
        self.room = 0
        self.rate = DrainRate()
        self.running = 0
        self.waiting = 0
        self.queues: Mapping[Priority, FairQueue] = {priority: FairQueue() for priority in TURNS}
        self._clock = 0.0
        self._starting = False

    def resize(self, room: int) -> None:
        """Run at most *room* requests at a time from now on."""
        if room != self.room:
            self.room = room
            self.rate.forget()

    def add(self, ticket: Ticket, now: float) -> None:
        """Let the request wait."""
        self.rate.set_busy(True, now)
        queue = self.queues[ticket.claim.priority]
        # A priority that begins to wait is owed nothing for the time when it did not wait (start-time fair queueing).
        if queue.count == 0:
            queue.tag = max(queue.tag, self._clock)
        queue.add(ticket)
        self.waiting += 1

    def remove(self, ticket: Ticket) -> None:
        """Remove a request that gives up waiting."""
        self.queues[ticket.claim.priority].remove(ticket)
        self._one_less()

    def departed(self, now: float) -> None:
        """A request that ran is over: the next ones begin."""
        self.running -= 1
        if self.waiting or self._starting:  # the drain rate counts only times with a queue
            self.rate.departed(now)
            self.start(now)

    def start(self, now: float) -> None:
        """Give turns to as many waiting requests as there is room for.

        A turn that fails at once frees its place: a loop begins the next one, as nested calls would have no bound.
        """
        if self._starting:
            return
        self._starting = True
        try:
            while self.waiting and self.running < self.room:
                ticket = self._next()
                self.running += 1
                ticket.stage = Stage.RUNNING
                # The place is counted before the call, since a turn that fails at once gives it back within the call.
                ticket.on_turn()
        finally:
            self._starting = False
            self.rate.set_busy(self.waiting > 0, now)

    def _next(self) -> Ticket:
        """Pop a request of the priority that is owed the next turn; of the higher one where two are."""
        priority = min((each for each in TURNS if self.queues[each].count), key=lambda each: self.queues[each].tag)
        queue = self.queues[priority]
        self._clock = queue.tag
        # The tag grows more slowly the more turns a priority is owed, so its tag is the lowest more often.
        queue.tag += 1.0 / TURNS[priority]
        ticket = queue.pop_next()
        self._one_less()
        return ticket

    def _one_less(self) -> None:
        self.waiting -= 1
        if self.waiting == 0:
            # No priority is owed anything when nothing waits.
            self._clock = 0.0
            for queue in self.queues.values():
                queue.tag = 0.0


class Admission:
    """The queues of one gateway, at most *queue_limit* requests in each."""

    def __init__(self, queue_limit: int) -> None:
        self._queue_limit = queue_limit
        self._pools: dict[str, _Pool] = {}

    def begin(self, name: str, room: int) -> bool:
        """Begin a request if the pool has room and no request waits for it; the request then runs until `end`.

        *room* is how many requests of this gateway the pool runs at a time. A request that cannot begin may `enter`.
        """
        pool = self._pools.get(name)
        if pool is None:
            pool = self._pools[name] = _Pool()
        if room != pool.room:
            pool.resize(room)
        if pool.running >= room or pool.waiting:
            return False
        pool.running += 1
        return True

    def enter(  # noqa: PLR0913 - a dataclass would be made and taken apart once a request
        self,
        name: str,
        room: int,
        claim: Claim,
        on_turn: Callable[[], None],
        on_expired: Callable[[], None],
        now: float,
    ) -> Ticket:
        """Return a place among the requests that run or wait; *on_turn* is called when a waiting one may begin.

        `Overloaded`, with the time after which to retry, if the queue has no place for the key or the deadline would
        certainly pass in it.
        """
        ticket = Ticket(name, claim, _ignore, on_expired)
        if self.begin(name, room):
            ticket.stage = Stage.RUNNING
            return ticket
        pool = self._pools[name]
        self._check_place(name, pool, claim, now)
        pool.add(ticket, now)
        pool.start(now)  # where the room has grown, the turn may come here; the caller sees that by the ticket
        ticket.on_turn = on_turn
        return ticket

    def resize(self, name: str, room: int, now: float) -> None:
        """Change how many requests the pool runs, as replicas came or went; waiting ones may have a turn."""
        pool = self._pools.get(name)
        if pool is not None:
            pool.resize(room)
            pool.start(now)

    def end(self, name: str, now: float) -> None:
        """End a request that runs; the next ones begin."""
        self._pools[name].departed(now)

    def leave(self, ticket: Ticket, now: float) -> None:
        """Give the place back, whether the request runs or waits; the next ones begin. Leaving again does nothing."""
        pool = self._pools[ticket.pool]
        stage, ticket.stage = ticket.stage, Stage.DEPARTED
        if stage is Stage.RUNNING:
            pool.departed(now)
        elif stage is Stage.WAITING:
            pool.remove(ticket)
            pool.start(now)

    def expire(self, now: float) -> None:
        """Remove the requests that wait past their deadline, and call `on_expired` of each."""
        for pool in self._pools.values():
            if not pool.waiting:
                continue
            for ticket in [each for queue in pool.queues.values() for each in queue.overdue(now)]:
                if ticket.stage is Stage.WAITING:  # else an earlier one's `on_expired` ended this one too
                    pool.remove(ticket)
                    ticket.stage = Stage.DEPARTED
                    ticket.on_expired()
            pool.start(now)

    def waiting(self, name: str) -> int:
        """Return how many requests wait for the pool."""
        pool = self._pools.get(name)
        return 0 if pool is None else pool.waiting

    def running(self, name: str) -> int:
        """Return how many of this gateway's requests the pool runs."""
        pool = self._pools.get(name)
        return 0 if pool is None else pool.running

    def _check_place(self, name: str, pool: _Pool, claim: Claim, now: float) -> None:
        per_s = pool.rate.per_s(now)
        queue = pool.queues[claim.priority]
        if queue.waiting_of(claim.key) >= self._queue_limit - pool.waiting:
            raise Overloaded(
                f"pool {name!r} has {pool.running} requests under way and {pool.waiting} waiting; retry later",
                retry_after_s=_retry_after_s(pool.waiting, per_s),
            )
        # Other priorities are left out and the whole drain rate is assumed: the estimate is rather short than long.
        ahead = queue.ahead_of_next(claim.key) + 1
        if per_s is not None and now + ahead / (per_s * _CERTAINLY) > claim.deadline:
            raise Overloaded(
                f"pool {name!r} would begin this request in about {ahead / per_s:.1f} s, after its deadline",
                retry_after_s=_retry_after_s(pool.waiting, per_s),
            )


def _ignore() -> None:
    """Stand for `on_turn` until `enter` returns."""


def _retry_after_s(waiting: int, per_s: float | None) -> int:
    """Return the time that the pool takes for those that wait now, in whole seconds."""
    if per_s is None:
        return _UNKNOWN_RETRY_S
    return max(1, min(_LONGEST_RETRY_S, ceil(waiting / per_s)))
