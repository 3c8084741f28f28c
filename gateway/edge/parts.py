"""The parts of one gateway process."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from engines.loops import Loops
from gateway.balancing.admission import Admission
from gateway.balancing.balancing import Balancer
from gateway.balancing.cold_starts import ColdStarts
from gateway.balancing.demand import RevisionDemand
from gateway.balancing.replica_health import ReplicaHealth
from gateway.balancing.retry_budget import RetryBudget
from gateway.dialects.dialect import Dialect
from gateway.edge.edge import Edge
from gateway.evidence.shadow import Shadow
from gateway.evidence.tally_reporter import TallyReporter
from gateway.foreign_pages import PageGuard
from gateway.keys.keyring import Keyring
from gateway.keys.limits import RateLimiter
from gateway.own_machine import OwnMachine
from gateway.routing.route_feed import RouteFeed
from gateway.routing.routing import Offers
from gateway.settings import GatewaySettings
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.metrics import GatewayMetrics
from gateway.telemetry.siblings import Siblings
from gateway.telemetry.traces import Traces
from gateway.wire.engine_connections import EngineConnections
from graders.runs import GraderRuns
from registry.database import Registry
from registry.errors import TransactionLost

P = ParamSpec("P")
T = TypeVar("T")

_ASK_AGAIN_AFTER_S: Final = (0.05, 0.25)
"""Pauses before a registry call is made again whose transaction was lost; a restarted PostgreSQL takes longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The parts of one gateway process, built once and shared by the hot path and the HTTP handlers."""

    settings: GatewaySettings
    home: Path | None
    """`LORRY_HOME` where the gateway has one."""
    registry: Registry
    loops: Loops
    """Everything that runs in the background of this process."""
    feed: RouteFeed
    offers: Offers
    dialects: Mapping[str, Dialect]
    """Path of a request that is answered through another path -> its dialect."""
    demand: RevisionDemand
    cold_starts: ColdStarts
    keyring: Keyring
    page_guard: PageGuard
    rate_limiter: RateLimiter
    admission: Admission
    balancer: Balancer
    health: ReplicaHealth
    budget: RetryBudget
    connections: EngineConnections
    edge: Edge
    tally_reporter: TallyReporter
    shadow: Shadow
    metrics: GatewayMetrics
    siblings: Siblings
    traces: Traces
    access_log: AccessLog | None
    grader_runs: GraderRuns
    own_machine: OwnMachine

    def problems(self, now: float) -> list[str]:
        """Return what keeps this process from following the registry, a sentence each; *now* is monotonic."""
        problems = [f"the loop {name} fails; the gateway's log has the error" for name in self.loops.down()]
        longest_s = self.settings.stale_after_s
        for what, age_s in (("routes", self.feed.age_s(now)), ("API keys", self.keyring.age_s(now))):
            # Before the first reading there is no replica either, and no caller is let in.
            if longest_s < age_s < math.inf:
                stale = f"the {what} were read {age_s:.0f} s ago, longer than stale_after_s"
                problems.append(f"{stale}: is the registry away?")
        return problems

    async def ask(self, question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the result of blocking registry calls, made in a thread.

        *question* is asked again where the database gave its transaction up, so it must not use up what it is given.
        """
        for pause_s in _ASK_AGAIN_AFTER_S:
            with contextlib.suppress(TransactionLost):
                return await asyncio.to_thread(question, *args, **kwargs)
            await asyncio.sleep(pause_s)
        return await asyncio.to_thread(question, *args, **kwargs)
