"""Shadow copies: requests of stable repeated at a canary, in the background and while its replica is quiet."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Container, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import msgspec

from engines.loops import log_failure
from gateway.errors import GatewayError
from gateway.evidence.answer_facts import AnswerFacts, Asked
from gateway.evidence.comparison import decided, preference_in, question
from gateway.evidence.quiet_calls import BUSY, LOOK_EVERY_S, Question, QuietCalls
from gateway.evidence.tally_reporter import TallyReporter
from gateway.evidence.waiting_copies import ShadowCopy, WaitingCopies, WaitingCopy
from gateway.evidence.witness import Witness
from gateway.routing.route_feed import RouteFeed
from gateway.routing.routing import Endpoint, Evidence, Target, resolve
from gateway.settings import GatewaySettings
from registry.rollouts.tally import ErrorKind, Side, Tally

_BURST_S: Final = 10.0
"""Seconds of the token budget that may accumulate."""
_BYTES_PER_TOKEN: Final = 4
"""Bytes of a prompt for each of its tokens, roughly."""
_ASK_AGAIN_S: Final = 1.0
"""How long an engine that was busy is not asked again."""


class TokenBudget:
    """A budget that grows at a steady rate; spending more than it has leaves a debt that is paid off first."""

    def __init__(self, per_s: float, now: float) -> None:
        self._per_s = per_s
        self._remaining = per_s * _BURST_S
        self._at = now

    def has_some(self, now: float) -> bool:
        """Return whether any tokens remain."""
        self._remaining = min(self._remaining + (now - self._at) * self._per_s, self._per_s * _BURST_S)
        self._at = now
        return self._remaining > 0

    def spend(self, tokens: float) -> None:
        """Spend *tokens*."""
        self._remaining -= tokens


class Shadow:
    """Makes copies while replicas are quiet and drops the others; a client's request never waits for a copy."""

    def __init__(
        self, calls: QuietCalls, feed: RouteFeed, tally_reporter: TallyReporter, settings: GatewaySettings
    ) -> None:
        self._calls = calls
        self._feed = feed
        self._tally_reporter = tally_reporter
        self._settings = settings
        self._draw = random.random
        self._budget = TokenBudget(settings.shadow_tokens_per_s, time.monotonic())
        self._waiting = WaitingCopies(settings.shadow_queue, settings.shadow_wait_s)
        self._looking: asyncio.Task[None] | None = None
        self._copies: set[asyncio.Task[None]] = set()
        self._quiet: frozenset[str] = frozenset()
        """Replicas that had room at the last check."""
        self._obstacles: dict[str, tuple[str, float]] = {}
        """Replica -> the obstacle that its engine reported, and until when it is not asked again."""

    def watch(self, evidence: Evidence, target: Target, path: str, body: Mapping[str, Any], began: float) -> Witness:
        """Return a witness of a client's request, which has the copy that a shadow step may want made at the end."""
        copy = self.choose(target, path, body)
        witness = Witness(self._tally_reporter, evidence, Asked.of(body, keep_text=copy is not None), began)
        if copy is not None:
            witness.notify_when_answered(partial(self.make, copy))
        return witness

    def choose(self, target: Target, path: str, body: Mapping[str, Any]) -> ShadowCopy | None:
        """Return the copy to make of this request once it is answered, or None unless stable has it and it is drawn."""
        route, evidence = target.route, target.evidence
        if route is None or evidence is None or evidence.side is not Side.STABLE or route.canary is None:
            return None
        if self._draw() * 100 >= route.shadow_percent:
            return None
        return ShadowCopy(evidence=evidence, canary=route.canary, judge=route.shadow_judge, path=path, body=body)

    def make(self, copy: ShadowCopy, replica: str, original: AnswerFacts) -> None:
        """Have the copy made at the replica that answered the original once nobody is there. Returns at once."""
        waiting = WaitingCopy(copy=copy, replica=replica, original=original, since=time.monotonic())
        if self._endpoint_for(waiting) is None:
            self._leave_out(waiting, "canary_not_loaded")
        else:
            self._wait(waiting)

    async def aclose(self) -> None:
        """Cancel the copies that are under way, and make no more."""
        under_way = [*self._copies, *([] if self._looking is None else [self._looking])]
        for each in under_way:
            each.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    def _wait(self, waiting: WaitingCopy) -> None:
        self._waiting.add(waiting)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._keep_looking(), name="shadow copies")
            self._looking.add_done_callback(log_failure)

    async def _keep_looking(self) -> None:
        # The last look may be long ago, and quiet takes two looks in a row.
        self._quiet = frozenset()
        while self._waiting:
            self._look(time.monotonic())
            await asyncio.sleep(LOOK_EVERY_S)

    def _look(self, now: float) -> None:
        """Begin the copies that can be made now, and count those that are left out."""
        has_room = frozenset(replica for replica in self._waiting.replicas if self._calls.has_room(replica))
        # quiet means room at two checks in a row: a pause between two requests of one client is shorter
        quiet = set(has_room & self._quiet)
        self._quiet = has_room
        self._obstacles = {replica: each for replica, each in self._obstacles.items() if now < each[1]}

        def obstacle_to(waiting: WaitingCopy) -> str:
            obstacle = self._obstacle(waiting, quiet, now)
            if not obstacle:
                quiet.discard(waiting.replica)  # one copy at a time for each replica
                self._begin(waiting)
            return obstacle

        for left_out in self._waiting.sort_out(obstacle_to, now):
            self._leave_out(left_out.waiting, left_out.reason)

    def _obstacle(self, waiting: WaitingCopy, quiet: Container[str], now: float) -> str:
        """Return why a copy cannot be made now, in one word; empty if it can."""
        if len(self._copies) >= self._settings.shadow_concurrency:
            return "copies_under_way"
        if waiting.replica not in quiet:
            return BUSY
        if not self._budget.has_some(now):
            return "budget_spent"
        found, _ = self._obstacles.get(waiting.replica, ("", now))
        return found

    def _begin(self, waiting: WaitingCopy) -> None:
        making = asyncio.create_task(self._make(waiting), name="shadow copy")
        making.add_done_callback(log_failure)
        self._copies.add(making)
        making.add_done_callback(self._copies.discard)

    async def _make(self, waiting: WaitingCopy) -> None:
        """Make the copy, and count both answers or neither."""
        copy, endpoint = waiting.copy, self._endpoint_for(waiting)
        # The copy has waited: replica and step may have changed since it was chosen.
        if endpoint is None or self._is_over(copy.evidence):
            self._leave_out(waiting, "canary_not_loaded" if endpoint is None else "step_over")
            return
        if obstacle := await self._calls.obstacle(endpoint):
            self._obstacles[waiting.replica] = obstacle, time.monotonic() + _ASK_AGAIN_S
            self._wait(waiting)
            return
        asked = Asked.of(copy.body, keep_text=copy.judge is not None)
        facts = await self._ask(endpoint, Question(copy.path, copy.canary, copy.body, asked))
        if facts is None or facts.error is ErrorKind.OVERLOADED:
            self._leave_out(waiting, "cut_off" if facts is None else "engine_full")
            return
        sides = ((Side.SHADOW_CANARY, facts), (Side.SHADOW_STABLE, waiting.original))
        for side, answer in sides:
            self._tally_reporter.add(replace(copy.evidence, side=side), endpoint.replica, answer.tally)
        if copy.judge is not None and facts.error is None:
            await self._compare(copy, copy.judge, endpoint.replica, facts.texts[0], waiting.original.texts[0])

    async def _compare(self, copy: ShadowCopy, judge: str, replica: str, canary: str, stable: str) -> None:
        """Ask the judge in both orders; any reply but its three words leaves the pair undecided."""
        try:
            judge = resolve(self._feed.table, judge, "").served_name
        except GatewayError:
            self._drop(copy, "judge_unknown")
            return
        scores = []
        for first, second in ((canary, stable), (stable, canary)):
            endpoint = await self._quiet_one(judge)
            body = question(copy.body, first, second)
            asked = Question("/v1/chat/completions", judge, body, Asked(keep_text=True))
            facts = None if endpoint is None else await self._ask(endpoint, asked)
            if facts is None:
                self._drop(copy, "judge_busy")
                return
            score = preference_in(facts.texts[0]) if facts.error is None else None
            if score is None:
                self._drop(copy, "judge_unclear")
                return
            scores.append(score)
        tally = decided(scores[0], scores[1])
        self._tally_reporter.add(replace(copy.evidence, side=Side.SHADOW_CANARY), replica, tally)

    async def _quiet_one(self, served_name: str) -> Endpoint | None:
        """Return a replica of *served_name* that is quiet now, or None."""
        await asyncio.sleep(LOOK_EVERY_S)  # an engine's figures still include what ran a moment ago
        for endpoint in self._feed.table.endpoints_of(served_name):
            if self._calls.has_room(endpoint.replica) and not await self._calls.obstacle(endpoint):
                return endpoint
        return None

    async def _ask(self, endpoint: Endpoint, asked: Question) -> AnswerFacts | None:
        """Return the facts of *endpoint*'s answer, or None if a client came; the prompt is paid for anyway."""
        facts = await self._calls.ask(endpoint, asked)
        answered = 0 if facts is None else facts.tally.output_tokens
        self._budget.spend(len(msgspec.json.encode(asked.body)) / _BYTES_PER_TOKEN + answered)
        return facts

    def _endpoint_for(self, waiting: WaitingCopy) -> Endpoint | None:
        """Return the original's replica if it has the canary."""
        endpoints = self._feed.table.endpoints_of(waiting.copy.canary)
        return next((each for each in endpoints if each.replica == waiting.replica), None)

    def _is_over(self, evidence: Evidence) -> bool:
        """Return whether the step has ended that a copy would be evidence for."""
        route = self._feed.table.routes.get(evidence.adapter)
        return route is None or (route.rollout_id, route.step) != (evidence.rollout_id, evidence.step)

    def _leave_out(self, waiting: WaitingCopy, reason: str) -> None:
        evidence = replace(waiting.copy.evidence, side=Side.SHADOW_CANARY)
        self._tally_reporter.add(evidence, waiting.replica, Tally(copies_left_out={reason: 1}))
        self._drop(waiting.copy, reason)

    def _drop(self, copy: ShadowCopy, reason: str) -> None:
        self._tally_reporter.metrics.dropped_copies.labels(copy.evidence.adapter, reason).inc()
