"""Copies of stable's requests for a canary that answers nobody yet, made in the background and in quiet moments."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import uuid4

import orjson

from gateway.answer_facts import AnswerFacts, Asked, Reading, failed
from gateway.balancing import Balancer
from gateway.comparison import decided, question, verdict
from gateway.edge.call import EngineCall
from gateway.edge.connections import AnswerHead, EngineConnections, Fault
from gateway.edge.engine_request import address_of, written
from gateway.errors import GatewayError
from gateway.observations import Observations
from gateway.route_feed import RouteFeed
from gateway.routing import Endpoint, Evidence, Target, resolve
from gateway.settings import GatewaySettings
from gateway.witness import reading_of
from registry.observation import ErrorKind, Side

log = logging.getLogger(__name__)

_BURST_S: Final = 10.0
"""So many seconds of the token budget may be saved up."""
_BYTES_PER_TOKEN: Final = 4
"""Of prompts, roughly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowCopy:
    """A request of stable's that was chosen to be copied once it is answered."""

    evidence: Evidence
    canary: str
    judge: str | None
    path: str
    body: Mapping[str, Any]


class TokenBudget:
    """Tokens that flow in at a steady rate; whoever takes more than there are leaves a debt to be paid off first."""

    def __init__(self, per_s: float, now: float) -> None:
        self._per_s = per_s
        self._left = per_s * _BURST_S
        self._at = now

    def has_some(self, now: float) -> bool:
        """True unless all is spent."""
        self._left = min(self._left + (now - self._at) * self._per_s, self._per_s * _BURST_S)
        self._at = now
        return self._left > 0

    def spend(self, tokens: float) -> None:
        """Take *tokens* out."""
        self._left -= tokens


class Shadow:
    """Makes copies while there is room for them, and drops the others; a client's request never waits for one."""

    def __init__(
        self,
        engines: EngineConnections,
        balancer: Balancer,
        feed: RouteFeed,
        observations: Observations,
        settings: GatewaySettings,
    ) -> None:
        self._engines = engines
        self._balancer = balancer
        self._feed = feed
        self._observations = observations
        self._settings = settings
        self._draw = random.random
        self._budget = TokenBudget(settings.shadow_tokens_per_s, time.monotonic())
        self._copies: set[asyncio.Task[None]] = set()
        self._ours: Counter[str] = Counter()

    def choose(self, target: Target, path: str, body: Mapping[str, Any]) -> ShadowCopy | None:
        """The copy to make of this request once it is answered, if it is stable's and drawn from the step's percent."""
        route, evidence = target.route, target.evidence
        if route is None or evidence is None or evidence.side is not Side.STABLE or route.canary is None:
            return None
        if self._draw() * 100 >= route.shadow_percent:
            return None
        return ShadowCopy(evidence=evidence, canary=route.canary, judge=route.shadow_judge, path=path, body=body)

    def make(self, copy: ShadowCopy, replica: str, original: AnswerFacts) -> None:
        """Begin the copy at the replica that answered the original, or count why it is dropped. Returns at once."""
        endpoint = next((e for e in self._feed.table.endpoints_of(copy.canary) if e.replica == replica), None)
        if endpoint is None:
            self._drop(copy, "canary_not_loaded")
        elif len(self._copies) >= self._settings.shadow_concurrency:
            self._drop(copy, "copies_under_way")
        elif self._is_busy(replica):
            self._drop(copy, "replica_busy")
        elif not self._budget.has_some(time.monotonic()):
            self._drop(copy, "budget_spent")
        else:
            making = asyncio.create_task(self._make(copy, endpoint, original))
            self._copies.add(making)
            making.add_done_callback(self._copies.discard)

    async def aclose(self) -> None:
        """Cut off the copies that are under way."""
        for making in self._copies:
            making.cancel()
        await asyncio.gather(*self._copies, return_exceptions=True)

    def _is_busy(self, replica: str) -> bool:
        return self._balancer.in_flight(replica) - self._ours[replica] > self._settings.shadow_client_requests

    def _drop(self, copy: ShadowCopy, reason: str) -> None:
        self._observations.metrics.dropped_copies.labels(copy.evidence.adapter, reason).inc()

    async def _make(self, copy: ShadowCopy, endpoint: Endpoint, original: AnswerFacts) -> None:
        """Both answers are counted, or neither."""
        asked = Asked.of(copy.body, keep_text=copy.judge is not None)
        facts = await self._ask(endpoint, copy.path, copy.canary, copy.body, asked)
        if facts.error is ErrorKind.OVERLOADED:
            self._drop(copy, "engine_full")
            return
        sides = ((Side.SHADOW_CANARY, facts), (Side.SHADOW_STABLE, original))
        for side, answer in sides:
            self._observations.add(replace(copy.evidence, side=side), endpoint.replica, answer.tally)
        if copy.judge is not None and facts.error is None:
            await self._compare(copy, copy.judge, endpoint.replica, facts.texts[0], original.texts[0])

    async def _compare(self, copy: ShadowCopy, judge: str, replica: str, canary: str, stable: str) -> None:
        """Ask the judge in both orders; a reply that is not one of its three words decides nothing."""
        try:
            judge = resolve(self._feed.table, judge, "").served_name
        except GatewayError:
            self._drop(copy, "judge_unknown")
            return
        scores = []
        for first, second in ((canary, stable), (stable, canary)):
            endpoints = self._feed.table.endpoints_of(judge)
            quiet = next((endpoint for endpoint in endpoints if not self._is_busy(endpoint.replica)), None)
            if quiet is None:
                self._drop(copy, "judge_busy")
                return
            body = question(copy.body, first, second)
            facts = await self._ask(quiet, "/v1/chat/completions", judge, body, Asked(keep_text=True))
            score = verdict(facts.texts[0]) if facts.error is None else None
            if score is None:
                self._drop(copy, "judge_unclear")
                return
            scores.append(score)
        tally = decided(scores[0], scores[1])
        self._observations.add(replace(copy.evidence, side=Side.SHADOW_CANARY), replica, tally)

    async def _ask(
        self, endpoint: Endpoint, path: str, served_name: str, body: Mapping[str, Any], asked: Asked
    ) -> AnswerFacts:
        """What *endpoint* answers; charged to the budget."""
        began = time.monotonic()
        content = orjson.dumps({**body, **address_of(endpoint, served_name)})
        pool = self._engines.of(endpoint.url)
        lines = b"content-type: application/json\r\nx-request-id: shadow-%b\r\n" % uuid4().hex.encode()
        hearing = _Hearing(asked)
        self._ours[endpoint.replica] += 1
        self._balancer.begin(endpoint.replica)
        try:
            call = EngineCall(hearing.heard)
            fault = await call.run(pool, written(path, pool.host, lines, content), self._settings.first_byte_timeout_s)
        finally:
            self._ours[endpoint.replica] -= 1
            self._balancer.end(endpoint.replica)
        facts = hearing.facts(fault, began)
        self._budget.spend(len(content) / _BYTES_PER_TOKEN + facts.tally.output_tokens)
        return facts


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
        self._reading.take(data, time.monotonic())
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
