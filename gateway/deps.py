"""Dependencies of the request handlers: the gateway's parts, and who calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ParamSpec, TypeVar

from fastapi import Depends, Request

from gateway.edge.edge import Edge
from gateway.evidence.shadow import Shadow
from gateway.evidence.tally_reporter import TallyReporter
from gateway.keys.auth import Caller, Keyring
from gateway.keys.limits import RateLimiter
from gateway.routing.demand import Demand
from gateway.routing.route_feed import RouteFeed
from gateway.settings import GatewaySettings
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.metrics import GatewayMetrics
from gateway.telemetry.siblings import Siblings
from gateway.telemetry.traces import Traces
from registry.database import Registry

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The parts of one gateway process, built once."""

    settings: GatewaySettings
    registry: Registry
    feed: RouteFeed
    keyring: Keyring
    rate_limiter: RateLimiter
    edge: Edge
    tally_reporter: TallyReporter
    shadow: Shadow
    demand: Demand
    metrics: GatewayMetrics
    siblings: Siblings
    traces: Traces
    access_log: AccessLog | None

    async def ask(self, question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a blocking registry call in a thread, and return its result."""
        return await asyncio.to_thread(question, *args, **kwargs)


def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


GatewayDep = Annotated[Gateway, Depends(_gateway)]


def caller_of(request: Request) -> Caller:
    """Return the caller whom `Authentication` stored with the request."""
    caller: Caller = request.state.caller
    return caller


def actor_of(request: Request) -> str:
    """Return who acts, for the audit log: the key's name; without keys the header `x-lorry-actor`, else `local`."""
    caller = caller_of(request)
    return caller.name if caller.key_id else request.headers.get("x-lorry-actor", caller.name)[:64]


CallerDep = Annotated[Caller, Depends(caller_of)]
ActorDep = Annotated[str, Depends(actor_of)]
