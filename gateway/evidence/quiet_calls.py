"""Requests of the gateway itself that run only while their replica is quiet; a client's request cuts them off."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from uuid import uuid4

import msgspec

from engines.catalog import kind_of, load_reader
from engines.errors import EngineUnreachable
from engines.load import EngineLoad
from gateway.balancing.balancing import Balancer
from gateway.evidence.answer_facts import AnswerFacts, Asked, Reading, failed
from gateway.evidence.witness import reading_of
from gateway.routing.routing import Endpoint
from gateway.settings import GatewaySettings
from gateway.wire.call import EngineCall
from gateway.wire.engine_answer import AnswerHead, Fault
from gateway.wire.engine_connections import EngineConnections
from registry.rollouts.tally import ErrorKind

LOOK_EVERY_S: Final = 0.1
"""How often an engine is asked for its load during a request of ours, which shows the clients of other gateways."""
BUSY: Final = "replica_busy"
LOAD_UNKNOWN: Final = "load_unknown"
_LINES: Final = b"content-type: application/json\r\nx-lorry-shadow: 1\r\n"
"""The second header makes our own engine spare the caches of clients' conversations."""


class Question(NamedTuple):
    """A request of the gateway itself."""

    path: str
    served_name: str
    body: Mapping[str, Any]
    asked: Asked

    def body_for(self, endpoint: Endpoint) -> bytes:
        """Return the body with the name by which *endpoint* knows the revision."""
        return msgspec.json.encode({**self.body, **endpoint.address_of(self.served_name)})


class QuietCalls:
    """Sends one request at a time to each replica while it has at most `shadow_client_requests` of clients.

    A request from a client of this gateway cuts ours off before it is sent. Clients of other gateways show only in the
    engine's own load figures, which are therefore read during the request.
    """

    def __init__(self, engines: EngineConnections, balancer: Balancer, settings: GatewaySettings) -> None:
        self._engines = engines
        self._balancer = balancer
        self._settings = settings
        self._asking: set[str] = set()

    def has_room(self, replica: str) -> bool:
        """Return whether *replica* has few enough clients of this gateway and no request of ours."""
        return replica not in self._asking and not self._is_crowded(replica)

    async def obstacle(self, endpoint: Endpoint) -> str:
        """Return why *endpoint* cannot be asked now, in one word; empty if it can as far as is known."""
        load = await self._load(endpoint)
        if load is None:
            # Without the engine's own figures clients of other gateways would go unseen.
            return LOAD_UNKNOWN
        too_many = load.running + load.waiting > self._settings.shadow_client_requests
        return "" if self.has_room(endpoint.replica) and not too_many else BUSY

    async def ask(self, endpoint: Endpoint, question: Question) -> AnswerFacts | None:
        """Return the facts of *endpoint*'s answer, or None if a client came meanwhile."""
        replica, pool = endpoint.replica, self._engines[endpoint.url]
        # No await lies between this look and the marks below, so two calls cannot both find the room.
        if not self.has_room(replica):
            return None
        began = time.monotonic()
        reader = _AnswerReader(question.asked)
        call = EngineCall(reader.add)
        lines = b"%bx-request-id: shadow-%b\r\n" % (_LINES, uuid4().hex.encode())
        request = pool.post(question.path, lines, question.body_for(endpoint))
        self._asking.add(replica)
        # The watch begins before a connection is opened, so that a client who comes meanwhile stops the call too.
        self._balancer.watch(replica, lambda: call.stop() if self._is_crowded(replica) else None)
        try:
            async with asyncio.TaskGroup() as group:
                looking = group.create_task(self._look(endpoint, question.asked.choices, call))
                fault = await call.run(pool, request, self._settings.first_byte_timeout_s)
                # `_look` has no end of its own, and the group would wait for it.
                looking.cancel()
        finally:
            self._asking.discard(replica)
            self._balancer.watch(replica, None)
        return None if fault is Fault.STOPPED else reader.facts(fault, began)

    def _is_crowded(self, replica: str) -> bool:
        return self._balancer.in_flight(replica) > self._settings.shadow_client_requests

    async def _look(self, endpoint: Endpoint, ours: int, call: EngineCall) -> None:
        """Stop *call* once the engine has more requests than ours and those that clients may have."""
        # Engines may count each choice as a request.
        most = ours + self._settings.shadow_client_requests
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            load = await self._load(endpoint)
            if load is not None and load.running + load.waiting > most:
                call.stop()

    async def _load(self, endpoint: Endpoint) -> EngineLoad | None:
        """Return the load that the engine reports, or None."""
        pool, path = self._engines[endpoint.url], kind_of(endpoint.engine).load.path
        parts: list[bytes] = []
        call = EngineCall(lambda _, data: parts.append(data))
        fault = await call.run(pool, pool.get(path), self._settings.connect_timeout_s)
        if fault is not None:
            return None
        try:
            return load_reader(endpoint.engine)(b"".join(parts).decode(errors="replace"))
        except EngineUnreachable:
            return None


class _AnswerReader:
    """Reads the answer to one request of the gateway itself."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._status = 0
        self._reading: Reading | None = None

    def add(self, head: AnswerHead, data: bytes) -> None:
        """Add bytes of the body."""
        if self._reading is None:
            self._status = head.status
            self._reading = reading_of(head.content_type, self._asked)
        self._reading.add_chunk(data, time.monotonic())
        self._reading.read()

    def facts(self, fault: Fault | None, began: float) -> AnswerFacts:
        """Return the facts of the answer, which ended with *fault* or completely."""
        if self._reading is None:
            return _no_answer(ErrorKind.UNAVAILABLE)
        if fault is not None:
            return _no_answer(ErrorKind.BROKEN)
        if self._status == 429:
            return _no_answer(ErrorKind.OVERLOADED)
        if self._status == 503:
            return _no_answer(ErrorKind.UNAVAILABLE)
        # stable accepted the same request, so a refusal is the canary's own fault
        return _no_answer(ErrorKind.ENGINE_ERROR) if self._status >= 400 else self._reading.result(began)


def _no_answer(error: ErrorKind) -> AnswerFacts:
    return AnswerFacts(error=error, completion_id="", tally=failed(error))
