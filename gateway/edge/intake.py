"""From a request's body to its turn: who asks, for what, whether there is room.

Nothing here waits. Every step returns whether the request may begin now; a task is made only where something rare is
waited for (a revision to be loaded, a table to be read anew, limits that are counted elsewhere), after which the turn
is advanced by the next step. A refusal is an exception of the step.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from gateway.balancing.fair_queue import Claim, Ticket
from gateway.edge.http_message import RequestBody, body_of
from gateway.edge.parts import Gateway
from gateway.edge.replica_wait import replica_of, stayed_asleep
from gateway.edge.token_estimate import Seen, tokens_used
from gateway.edge.turn import Turn, refuse
from gateway.edge.unpacking import unpack
from gateway.errors import DeadlineExceeded, EngineUnavailable, ModelNotAllowed, ModelNotFound, NothingStable
from gateway.keys.access import check_model
from gateway.keys.caller import ANYBODY, credential_of, priority_of
from gateway.keys.limit_ledger import Admitted
from gateway.keys.not_served import why_unknown
from gateway.routing.enforceable import check_enforceable
from gateway.routing.routing import Endpoint, RouteTable, Target, not_offered, resolve, sticky_key
from gateway.routing.sleeping import pool_to_wake
from registry.keys import Scope
from registry.states import Priority

T = TypeVar("T")


class RequestIntake:
    """Lets one request in; `leave` gives back what it holds, whenever that is."""

    caller = ANYBODY
    body: RequestBody
    """Set from `begin` on, unless that refuses the body."""
    target = Target(served_name="")
    endpoints: Sequence[Endpoint] = ()
    """The replicas that may answer, as they were when the turn came."""
    asked_name = ""
    """The model as the client named it."""
    pool = ""
    admitted: Admitted | None = None
    deadline = math.inf
    """Until then the client waits for the first byte; monotonic."""
    entered = turn_at = 0.0
    waited_cold = False
    """The request came when its pool had no replica, and waited for one."""
    asks_for_usage = False
    """The engine is to send the usage of a stream although the client did not ask for it."""
    _is_withdrawn = False
    _has_refreshed = False
    _waiting: asyncio.Task[Any] | None = None
    _ticket: Ticket | None = None
    """The place of the request in the queue, where it had to wait."""
    _woken: str | None = None
    """The name that the request has its pool woken by, while it waits for that."""

    def __init__(self, gateway: Gateway, turn: Turn) -> None:
        self._gateway = gateway
        self._turn = turn
        self._head = turn.head
        self._kind = turn.kind

    @property
    def queued_s(self) -> float:
        """How long the request waited for its turn, so far or in all."""
        if not self.entered:
            return 0.0
        return (self.turn_at or time.monotonic()) - self.entered

    @property
    def cold_start_s(self) -> float:
        """How much of `queued_s` the request waited for a pool that had no replica."""
        return self.queued_s if self.waited_cold else 0.0

    def check_caller(self) -> None:
        """Return if the request may be read on; `Unauthenticated`, `Forbidden`, `RegistryUnavailable`."""
        keyring = self._gateway.keyring
        self.caller = keyring.caller_of(self._credential(), time.time())
        if self.caller is ANYBODY:  # with keys a page of another site can do nothing: it has none
            self._gateway.page_guard.check_keyless(self._head.headers)
        if Scope.INFERENCE not in self.caller.scopes:
            keyring.check(self.caller, Scope.INFERENCE)

    def begin(self, raw: bytes, now: float) -> bool:
        """Take the whole body in: the first `Step`."""
        settings = self._gateway.settings
        self.deadline = now + self._head.timeout_s(settings.request_timeout_s)
        encodings = self._head.headers.get(b"content-encoding")
        if encodings is None:
            return self._read(raw)
        limit = settings.max_form_bytes if self._kind.is_multipart else settings.max_body_bytes
        return self._wait(asyncio.to_thread(unpack, raw, encodings.decode("latin-1"), limit), self._read)

    def _read(self, raw: bytes) -> bool:
        settings = self._gateway.settings
        body = self.body = body_of(raw, self._kind, self._head)
        # The usage is one more event, which is parsed and left out again: asked for only where somebody counts it.
        if body.is_streamed and self._kind.asks_for_usage and not body.wants_usage:
            self.asks_for_usage = settings.count_tokens or self.caller.limits.tokens_per_minute is not None
        self.asked_name = body.model
        return self._resolve()

    def expire(self) -> bool:
        """Refuse the request, whose deadline is past: a `Step`."""
        raise DeadlineExceeded("the request waited for its turn for as long as it may")

    def withdraw(self) -> None:
        """Let the request count against no limit a minute, as no engine was asked."""
        if self.admitted is not None and not self._is_withdrawn:
            self._is_withdrawn = True
            self.admitted = self._gateway.rate_limiter.withdraw(self.admitted)

    def settle(self, seen: Seen) -> None:
        """Count what the request used in place of its estimate, where that is known."""
        if self.admitted is not None and (tokens := tokens_used(self.body.estimate(), seen)) is not None:
            self._gateway.rate_limiter.correct(self.admitted, tokens)

    def leave(self, now: float) -> None:
        """Give every place back, as the request is over."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        self._stop_waking()
        if self._ticket is not None:
            self._gateway.admission.leave(self._ticket, now)
            self._ticket = None  # it holds this intake
        # A request that began at once has no ticket; only the pool's count holds its place.
        elif self.turn_at:
            self._gateway.admission.end(self.pool, now)
        if self.admitted is not None:
            self._gateway.rate_limiter.release(self.admitted)

    # the steps, in their order

    def _resolve(self, _: object = None) -> bool:
        table, name, caller = self._gateway.feed.table, self.body.model, self.caller
        try:
            if caller.models is not None or table.private:
                check_model(caller, table, name)
            side = self._head.side
            self.target = table.targets.get(name) or resolve(
                table, name, self._sticky_key(table, name), side, caller.name
            )
        except (ModelNotAllowed, ModelNotFound, NothingStable) as exc:
            if self._has_refreshed:
                if not isinstance(exc, ModelNotFound):
                    raise
                return self._wait(why_unknown(self._gateway.registry, caller, table, name), refuse)
            self._has_refreshed = True  # the name may be younger than the table
            return self._wait(self._gateway.feed.refresh(), self._resolve)
        # Limits come after the checks: a request with a wrong name or a forbidden model counts against none.
        if not self.caller.is_limited:
            return self._enter()
        limiter, tokens = self._gateway.rate_limiter, self.body.estimate().total
        if limiter.is_shared:
            return self._wait(limiter.admit_shared(self.caller, tokens), self._admit)
        return self._admit(limiter.admit(self.caller, tokens))

    def _admit(self, admitted: Admitted) -> bool:
        self.admitted = admitted
        return self._enter()

    def _enter(self, _: object = None) -> bool:
        now = time.monotonic()
        gateway, served_name = self._gateway, self.target.served_name
        table = gateway.feed.table
        self.endpoints = gateway.offers.of(table, served_name, self._kind.path)
        if not self.endpoints:
            if not table.endpoints_of(served_name):
                if (asleep := pool_to_wake(table, served_name)) is not None:
                    return self._wake(asleep.name, now)
                return self._wait(replica_of(gateway, served_name, self.deadline - now), self._enter)
            if self._has_refreshed:
                raise not_offered(table, served_name, self._kind.path, self.caller.models, self._head.path)
            self._has_refreshed = True  # a replica that offers the path may be younger than the table
            return self._wait(gateway.feed.refresh(), self._enter)
        if self.body.prescribes:
            self._check_form()
        self.pool = self.endpoints[0].pool
        self.entered = now
        places = table.request_places.get(self.pool, 0)
        priority = self._priority()
        # The usual way: where there is room and nobody waits, neither claim nor ticket is made.
        if gateway.admission.begin(self.pool, places):
            self.turn_at = now
            return True
        claim = Claim(key=self.caller.key_id, priority=priority, deadline=self.deadline)
        on_turn, on_expired = partial(self._turn.advance, self._begin_turn), partial(self._turn.advance, self.expire)
        self._ticket = gateway.admission.enter(self.pool, places, claim, on_turn, on_expired, now)
        return self._ticket.is_running and self._begin_turn()

    def _priority(self) -> Priority:
        asked = self._head.headers.get(b"x-lorry-priority")
        return self.caller.priority if asked is None else priority_of(self.caller, asked.decode("latin-1"))

    def _wake(self, pool: str, now: float) -> bool:
        """Wait in the queue of a pool that has no place yet; its first replica brings places, and the turn."""
        self.pool, self.entered, self.waited_cold = pool, now, True
        until = min(self.deadline, now + self._gateway.settings.cold_start_wait_s)
        claim = Claim(key=self.caller.key_id, priority=self._priority(), deadline=until)
        on_turn = partial(self._turn.advance, self._begin_awake)
        on_expired = partial(self._turn.advance, self._stayed_asleep)
        self._ticket = self._gateway.admission.enter(pool, 0, claim, on_turn, on_expired, now)
        self._woken = self.target.served_name
        self._gateway.cold_starts.begin(self._woken)
        return False

    @property
    def is_served_elsewhere(self) -> bool:
        """Whether the request waits for its pool to wake, and a replica of another pool can answer by now."""
        if self._woken is None:
            return False
        table = self._gateway.feed.table
        return self.pool not in table.request_places and bool(table.endpoints_of(self._woken))

    def enter_elsewhere(self) -> bool:
        """Leave the queue of the pool that sleeps, and enter that of another one: a `Step`."""
        self._stop_waking()
        if self._ticket is not None:
            self._gateway.admission.leave(self._ticket, time.monotonic())
            self._ticket = None
        return self._enter()

    def _stop_waking(self) -> None:
        woken, self._woken = self._woken, None
        if woken is not None:
            self._gateway.cold_starts.end(woken)

    def _begin_awake(self) -> bool:
        """Begin now that the pool has a replica, by which what is asked for can be judged."""
        self._stop_waking()
        self._begin_turn()
        table, served_name = self._gateway.feed.table, self.target.served_name
        if not self.endpoints and table.endpoints_of(served_name):
            raise not_offered(table, served_name, self._kind.path, self.caller.models, self._head.path)
        # Without an endpoint the replica is loading the adapter: the attempts wait for it.
        if self.endpoints and self.body.prescribes:
            self._check_form()
        return True

    def _stayed_asleep(self) -> bool:
        """Refuse the request: a `Step`."""
        now = time.monotonic()
        if now >= self.deadline:
            return self.expire()
        raise stayed_asleep(self._gateway.feed.latest, self.pool, now - self.entered)

    def _check_form(self) -> None:
        """Return if the engines keep to the form that the request prescribes; `EngineLacks`."""
        check_enforceable(self.body.whole(), self._kind.path, self.endpoints)

    def _begin_turn(self) -> bool:
        """Begin after a time in the queue, in which replicas may have come and gone."""
        self.turn_at = time.monotonic()
        self.endpoints = self._gateway.offers.of(self._gateway.feed.table, self.target.served_name, self._kind.path)
        return True

    def _sticky_key(self, table: RouteTable, name: str) -> str:
        """Return what keeps the conversation on its side; formed only where there are two sides."""
        route = table.routes.get(name)
        if route is None or route.canary is None:
            return ""
        return sticky_key(self.body.whole(), self._head.text(b"x-session-id"), self._credential().decode("latin-1"))

    def _credential(self) -> bytes:
        headers = self._head.headers
        sent = headers.get(b"authorization")
        return credential_of(None, headers.get(b"x-api-key"), headers.get(b"api-key")) if sent is None else sent

    # where something is waited for

    def _wait(self, what: Coroutine[Any, Any, T], then: Callable[[T], bool]) -> bool:
        self._waiting = waiting = asyncio.create_task(what)
        waiting.add_done_callback(partial(self._came, then))
        return False

    def _came(self, then: Callable[[T], bool], waited: asyncio.Task[T]) -> None:
        """Go on with what was waited for; any error ends the request here, as its deadline may be far."""
        if waited is not self._waiting:
            return  # the request is over
        self._waiting = None
        if waited.cancelled():  # by the end of something that others wait for as well
            self._turn.advance(partial(refuse, EngineUnavailable("the gateway was interrupted", retry_after_s=1)))
        elif (error := waited.exception()) is not None:
            self._turn.advance(partial(refuse, error))
        else:
            self._turn.advance(partial(then, waited.result()))
