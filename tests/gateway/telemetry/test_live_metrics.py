"""Live metrics show the present state, and lose a replica when it is gone."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from gateway.app import build_gateway
from gateway.balancing.fair_queue import Claim
from gateway.routing.routing import Endpoint, RouteTable
from gateway.settings import GatewaySettings
from gateway.telemetry.live_metrics import LiveMetrics
from registry.database import Registry
from registry.states import Priority


def endpoint(replica: str, pool: str) -> Endpoint:
    return Endpoint(replica=replica, url="", base="tiny", engine="vllm", served_names=frozenset({"tiny"}), pool=pool)


NEVER_READ = "gateway_route_table_timestamp_seconds 0.0"


def lines(live: LiveMetrics) -> set[str]:
    collector = CollectorRegistry()
    collector.register(live)
    return {line for line in generate_latest(collector).decode().splitlines() if not line.startswith("#")}


def test_replicas_show_their_requests_and_share_and_pools_their_ejections_and_queue(sqlite_registry: Registry) -> None:
    parts = build_gateway(GatewaySettings(eject_s=1000.0), sqlite_registry)
    live = LiveMetrics(parts.feed, parts.balancer, parts.health, parts.admission)
    assert lines(live) == {NEVER_READ}
    both = (endpoint("a", "large"), endpoint("b", "small"))
    parts.feed.table = RouteTable(endpoints=both, request_places={"large": 1, "small": 1})
    parts.health.appeared(both, 0.0)
    for _ in range(3):
        parts.balancer.begin("a", "support@1")
        claim = Claim(key="", priority=Priority.NORMAL, deadline=1000.0)
        parts.admission.enter("large", 1, claim, lambda: None, lambda: None, 0.0)
    parts.health.failed("a", 1.0)
    assert lines(live) == {NEVER_READ}
    live.look()
    assert lines(live) == {
        NEVER_READ,
        'gateway_requests_in_flight{pool="large",replica="a"} 3.0',
        'gateway_requests_in_flight{pool="small",replica="b"} 0.0',
        'gateway_replica_share{pool="large",replica="a"} 0.0',
        'gateway_replica_share{pool="small",replica="b"} 1.0',
        'gateway_ejections_total{pool="large"} 1.0',
        'gateway_ejections_total{pool="small"} 0.0',
        'gateway_queue_length{pool="large"} 2.0',
        'gateway_queue_length{pool="small"} 0.0',
    }
    parts.feed.table = RouteTable(endpoints=both[1:], request_places={"small": 1})
    live.look()
    assert not any('"a"' in line or '"large"' in line for line in lines(live))
