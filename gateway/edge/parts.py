"""The parts of a gateway that its hot path uses."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.balancing.admission import Admission
from gateway.balancing.balancing import Balancer
from gateway.balancing.replica_health import ReplicaHealth
from gateway.balancing.retry_budget import RetryBudget
from gateway.evidence.shadow import Shadow
from gateway.evidence.tally_reporter import TallyReporter
from gateway.keys.auth import Keyring
from gateway.keys.limits import RateLimiter
from gateway.routing.demand import Demand
from gateway.routing.offers import Offers
from gateway.routing.route_feed import RouteFeed
from gateway.settings import GatewaySettings
from gateway.telemetry.finished import FinishedListener
from gateway.telemetry.traces import Traces
from gateway.wire.connections import EngineConnections


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeParts:
    """Built once for a gateway process, and shared with what is not hot."""

    settings: GatewaySettings
    feed: RouteFeed
    demand: Demand
    balancer: Balancer
    health: ReplicaHealth
    budget: RetryBudget
    admission: Admission
    keyring: Keyring
    rate_limiter: RateLimiter
    connections: EngineConnections
    tally_reporter: TallyReporter
    shadow: Shadow
    offers: Offers
    traces: Traces
    listeners: tuple[FinishedListener, ...]
    """Told of every request that is over, in this order."""
