"""The parts of a gateway that its hot path uses."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.admission import Admission
from gateway.auth import Keyring
from gateway.balancing import Balancer
from gateway.demand import Demand
from gateway.edge.connections import EngineConnections
from gateway.edge.finished import FinishedListener
from gateway.limits import Limits
from gateway.observations import Observations
from gateway.offers import Offers
from gateway.replica_health import ReplicaHealth
from gateway.retry_budget import RetryBudget
from gateway.route_feed import RouteFeed
from gateway.settings import GatewaySettings
from gateway.shadow import Shadow
from gateway.traces import Traces


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
    limits: Limits
    connections: EngineConnections
    observations: Observations
    shadow: Shadow
    offers: Offers
    traces: Traces
    listeners: tuple[FinishedListener, ...]
    """Told of every request that is over, in this order."""
