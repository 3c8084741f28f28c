"""Requests of the gateway's own that run only while no client is at their replica; one that comes cuts them off."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from uuid import uuid4

import orjson

from engines.catalog import kind_of, load_reader
from engines.errors import EngineUnreachable
from engines.load import EngineLoad
from gateway.balancing.balancing import Balancer
from gateway.evidence.answer_facts import AnswerFacts, Asked, Reading, failed
from gateway.evidence.witness import reading_of
from gateway.routing.routing import Endpoint
from gateway.settings import GatewaySettings
from gateway.wire.call import EngineCall
from gateway.wire.connections import AnswerHead, EngineConnections, Fault
from gateway.wire.engine_request import address_of, read, written
from registry.rollouts.tally import ErrorKind

LOOK_EVERY_S: Final = 0.1
"""How often an engine is asked for its load while a request of ours runs there: other gateways' clients are seen so."""
BUSY: Final = "replica_busy"
LOAD_UNKNOWN: Final = "load_unknown"
_LINES: Final = b"content-type: application/json\r\nx-lorry-shadow: 1\r\n"
"""By the second of them our own engine leaves clients what it keeps of their conversations."""


class Question(NamedTuple):
    """A request of ours."""

    path: str
    served_name: str
    body: Mapping[str, Any]
    asked: Asked

    def body_for(self, endpoint: Endpoint) -> bytes:
        """As *endpoint* wants it."""
        return orjson.dumps({**self.body, **address_of(endpoint, self.served_name)})


class QuietCalls:
    """Asks replicas, each about one thing at a time, while they have at most `shadow_client_requests` of clients.

    This gateway's own clients are known at once: what is under way is cut off before their request is sent. Those of
    other gateways show in what the engine says of its load.
    """

    def __init__(self, engines: EngineConnections, balancer: Balancer, settings: GatewaySettings) -> None:
        self._engines = engines
        self._balancer = balancer
        self._settings = settings
        self._asking: set[str] = set()

    def has_room(self, replica: str) -> bool:
        """Whether so few clients of this gateway are at *replica*, and nothing of ours."""
        return replica not in self._asking and not self._is_crowded(replica)

    async def obstacle(self, endpoint: Endpoint) -> str:
        """Why *endpoint* cannot be asked now as far as anybody knows, in one word; empty if it can."""
        load = await self._load(endpoint)
        if load is None:
            return LOAD_UNKNOWN
        too_many = load.running + load.waiting > self._settings.shadow_client_requests
        return "" if self.has_room(endpoint.replica) and not too_many else BUSY

    async def ask(self, endpoint: Endpoint, question: Question) -> AnswerFacts | None:
        """What *endpoint* answers; None where a client came in between."""
        replica, pool = endpoint.replica, self._engines.of(endpoint.url)
        if not self.has_room(replica):
            return None
        began = time.monotonic()
        hearing = _Hearing(question.asked)
        call = EngineCall(hearing.heard)
        lines = b"%bx-request-id: shadow-%b\r\n" % (_LINES, uuid4().hex.encode())
        request = written(question.path, pool.host, lines, question.body_for(endpoint))
        self._asking.add(replica)
        self._balancer.tell(replica, lambda: call.stop() if self._is_crowded(replica) else None)
        try:
            async with asyncio.TaskGroup() as group:
                looking = group.create_task(self._look(endpoint, question.asked.choices, call))
                fault = await call.run(pool, request, self._settings.first_byte_timeout_s)
                looking.cancel()
        finally:
            self._asking.discard(replica)
            self._balancer.tell(replica, None)
        return None if fault is Fault.STOPPED else hearing.facts(fault, began)

    def _is_crowded(self, replica: str) -> bool:
        return self._balancer.in_flight(replica) > self._settings.shadow_client_requests

    async def _look(self, endpoint: Endpoint, ours: int, call: EngineCall) -> None:
        """Cut *call* off once the engine has more than it and the clients' requests that may be there."""
        most = ours + self._settings.shadow_client_requests
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            load = await self._load(endpoint)
            if load is not None and load.running + load.waiting > most:
                call.stop()

    async def _load(self, endpoint: Endpoint) -> EngineLoad | None:
        """What the engine says of itself; None if it says nothing."""
        pool, path = self._engines.of(endpoint.url), kind_of(endpoint.engine).load.path
        parts: list[bytes] = []
        call = EngineCall(lambda _, data: parts.append(data))
        fault = await call.run(pool, read(path, pool.host), self._settings.connect_timeout_s)
        if fault is not None:
            return None
        try:
            return load_reader(endpoint.engine)(b"".join(parts).decode(errors="replace"))
        except EngineUnreachable:
            return None


class _Hearing:
    """Reads the answer to one request of ours."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._status = 0
        self._reading: Reading | None = None

    def heard(self, head: AnswerHead, data: bytes) -> None:
        """More of the body has come."""
        if self._reading is None:
            self._status = head.status
            self._reading = reading_of(head.content_type, self._asked)
        self._reading.add_chunk(data, time.monotonic())
        self._reading.read()

    def facts(self, fault: Fault | None, began: float) -> AnswerFacts:
        """What the answer was like, now that it ended in this way."""
        if self._reading is None:
            return _no_answer(ErrorKind.UNAVAILABLE)
        if fault is not None:
            return _no_answer(ErrorKind.BROKEN)
        if self._status == 429:
            return _no_answer(ErrorKind.OVERLOADED)
        if self._status == 503:
            return _no_answer(ErrorKind.UNAVAILABLE)
        # stable took the same request, so whatever the canary has against it is its own fault
        return _no_answer(ErrorKind.ENGINE_ERROR) if self._status >= 400 else self._reading.result(began)


def _no_answer(error: ErrorKind) -> AnswerFacts:
    return AnswerFacts(error=error, completion_id="", tally=failed(error))
