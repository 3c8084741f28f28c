"""From a request's body to its turn: who asks, for what, whether there is room.

Nothing here waits: each step calls the next, and a task is made only where something rare is waited for (a revision to
be loaded, a table to be read anew, limits that are counted elsewhere).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from gateway.balancing.ticket import Claim, Ticket
from gateway.edge.body import RequestBody, body_of
from gateway.edge.head import RequestHead
from gateway.edge.parts import EdgeParts
from gateway.edge.waits import replica_of
from gateway.errors import DeadlineExceeded, GatewayError, ModelNotFound, NothingStable
from gateway.keys.auth import ANYBODY, credential_of, names_of, priority_of
from gateway.keys.limit_ledger import Admitted
from gateway.keys.limits import estimate_tokens
from gateway.routing.offers import not_offered
from gateway.routing.paths import PathKind
from gateway.routing.routing import Endpoint, RouteTable, Target, resolve, sticky_key
from registry.errors import RegistryError
from registry.keys import Scope

log = logging.getLogger(__name__)

T = TypeVar("T")


class Taker(Protocol):
    """Whoever gets the request answered once its turn has come."""

    def ready(self) -> None:
        """It is the request's turn."""
        ...

    def refuse(self, error: Exception) -> None:
        """The request cannot be answered."""
        ...


class Intake:
    """Lets one request in; `leave` gives back what it took, whenever that is."""

    caller = ANYBODY
    body: RequestBody
    """Set from `begin` on, unless that refuses it."""
    target = Target(served_name="")
    asked_name = ""
    """The model as the client named it."""
    pool = ""
    admitted: Admitted | None = None
    deadline = math.inf
    """Until then the client waits for the first byte; monotonic."""
    entered = turn_at = 0.0
    asks_for_usage = False
    """The engine is to say the usage of a stream although the client did not ask for it."""
    _has_refreshed = False
    _waiting: asyncio.Task[None] | None = None
    _ticket: Ticket | None = None

    def __init__(self, parts: EdgeParts, head: RequestHead, kind: PathKind, taker: Taker) -> None:
        self._parts = parts
        self._head = head
        self._kind = kind
        self._taker = taker

    @property
    def queued_s(self) -> float:
        """How long it waited for its turn, so far or in all."""
        if not self.entered:
            return 0.0
        return (self.turn_at or time.monotonic()) - self.entered

    def check_caller(self) -> None:
        """Return if the request may be read on; `Unauthenticated`, `Forbidden`, `RegistryUnavailable`."""
        headers = self._head.headers
        credential = credential_of(headers.get(b"authorization"), headers.get(b"x-api-key"))
        self.caller = self._parts.keyring.caller_of(credential, time.time())
        self._parts.keyring.check(self.caller, Scope.INFERENCE)

    def begin(self, raw: bytes, now: float) -> None:
        """Take the whole body; `ready` or `refuse` of the taker follows, now or later."""
        self._parts.budget.note_request(now)
        self._step(self._read, raw, now)

    def check(self, now: float) -> None:
        """Time has passed."""
        if now >= self.deadline:
            self._taker.refuse(DeadlineExceeded("the request waited for its turn for as long as it may"))

    def leave(self, now: float, tokens: int | None) -> None:
        """It is over, or given up; it used so many *tokens* if that is known."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if self._ticket is not None:
            self._parts.admission.leave(self._ticket, now)
            self._ticket = None  # it knows this intake
        if self.admitted is not None:
            if tokens is not None:
                self._parts.rate_limiter.correct(self.admitted, tokens)
            self._parts.rate_limiter.release(self.admitted)

    # the steps, in their order

    def _read(self, raw: bytes, now: float) -> None:
        self.body = body_of(raw, self._kind, self._head)
        if self.body.is_streamed and self._kind.asks_for_usage and not self.body.wants_usage:
            limits = self.caller.limits
            self.asks_for_usage = self._parts.settings.count_tokens or limits.tokens_per_minute is not None
        self.deadline = now + self._head.timeout_s(self._parts.settings.request_timeout_s)
        self.asked_name = self.body.model
        self._resolve()

    def _resolve(self, _: object = None) -> None:
        table, name = self._parts.feed.table, self.body.model
        try:
            self.target = resolve(table, name, self._sticky_key(table, name), self._head.side, self.caller.name)
        except (ModelNotFound, NothingStable):
            if self._has_refreshed:
                raise
            self._has_refreshed = True  # the name may be younger than the table
            self._wait(self._parts.feed.refresh(), self._resolve)
            return
        if self.caller.models is not None:
            self._parts.keyring.check(self.caller, Scope.INFERENCE, names_of(name, table.aliases))
        if self.caller.limits.are_none:
            self._enter()
            return
        tokens = estimate_tokens(self.body.size, self.body.answer_tokens)
        if self._parts.rate_limiter.is_shared:
            self._wait(self._parts.rate_limiter.admit_shared(self.caller, tokens), self._admit)
        else:
            self._admit(self._parts.rate_limiter.admit(self.caller, tokens))

    def _admit(self, admitted: Admitted) -> None:
        self.admitted = admitted
        self._enter()

    def _enter(self, _: object = None) -> None:
        now = time.monotonic()
        table = self._parts.feed.table
        endpoints: Sequence[Endpoint] = table.endpoints_of(self.target.served_name)
        if not endpoints:
            waiting = replica_of(self._parts, self.target.served_name, self.deadline - now)
            self._wait(waiting, self._enter)
            return
        endpoints = self._parts.offers.of(endpoints, self.target.served_name, self._kind.path)
        if not endpoints:
            if self._has_refreshed:
                raise not_offered(table, self.target.served_name, self._kind.path)
            self._has_refreshed = True  # a replica that offers it may be younger than the table
            self._wait(self._parts.feed.refresh(), self._enter)
            return
        self.pool = endpoints[0].pool
        self.entered = now
        claim = Claim(
            key=self.caller.key_id,
            priority=priority_of(self.caller, self._head.text(b"x-lorry-priority")),
            deadline=self.deadline,
        )
        room = table.rooms.get(self.pool, 0)
        self._ticket = self._parts.admission.enter(self.pool, room, claim, self._on_turn, self._on_expired, now)
        if self._ticket.is_running:
            self._begin_turn()

    def _on_turn(self) -> None:
        if self._ticket is not None:  # else it came within `enter`, after which it is taken up
            self._step(self._begin_turn)

    def _begin_turn(self) -> None:
        self.turn_at = time.monotonic()
        self._taker.ready()

    def _on_expired(self) -> None:
        self.check(self.deadline)

    def _sticky_key(self, table: RouteTable, name: str) -> str:
        """What keeps the conversation on its side; formed only where there are two."""
        route = table.routes.get(name)
        if route is None or route.canary is None:
            return ""
        credential = self._head.text(b"authorization") or ""
        return sticky_key(self.body.whole(), self._head.text(b"x-session-id"), credential)

    def _step(self, step: Callable[..., None], *given: Any) -> None:
        try:
            step(*given)
        except (GatewayError, RegistryError) as exc:
            self._taker.refuse(exc)
        except Exception as exc:
            log.exception("unforeseen error", extra={"path": self._head.path})
            self._taker.refuse(exc)

    def _wait(self, what: Coroutine[Any, Any, T], then: Callable[[T], None]) -> None:
        self._waiting = asyncio.create_task(self._wait_and_step(what, then))

    async def _wait_and_step(self, what: Coroutine[Any, Any, T], then: Callable[[T], None]) -> None:
        try:
            result = await what
        except (GatewayError, RegistryError) as exc:
            self._waiting = None
            self._taker.refuse(exc)
        else:
            self._waiting = None
            self._step(then, result)
