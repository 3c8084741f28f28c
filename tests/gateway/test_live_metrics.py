"""What metrics say of the moment: read where it is known, gone with the replica."""

from __future__ import annotations

from gateway.live_metrics import LiveMetrics
from gateway.metrics import GatewayMetrics
from gateway.replica_health import HealthPolicy, ReplicaHealth
from gateway.routing import Endpoint, RouteTable


def endpoint(replica: str, pool: str) -> Endpoint:
    return Endpoint(replica=replica, url="", base="tiny", engine="vllm", served_names=frozenset({"tiny"}), pool=pool)


def test_replicas_show_their_requests_and_share_and_pools_their_ejections() -> None:
    tables = [RouteTable(endpoints=(endpoint("a", "large"), endpoint("b", "small")))]
    health = ReplicaHealth(HealthPolicy(pause_s=1000.0))
    health.appeared(tables[0].endpoints, 0.0)
    live = LiveMetrics(lambda: tables[-1], {"a": 3, "b": 0}.__getitem__, health)
    metrics = GatewayMetrics()
    metrics.show(live)

    def lines() -> set[str]:
        text = metrics.own(lambda _: True)
        return {
            line for line in text.splitlines() if line.startswith(("gateway_requests_in", "gateway_rep", "gateway_ej"))
        }

    health.failed("a", 1.0)
    assert 'gateway_ejections_total{pool="large"} 0.0' in lines()
    live.look()
    assert lines() == {
        'gateway_requests_in_flight{pool="large",replica="a"} 3.0',
        'gateway_requests_in_flight{pool="small",replica="b"} 0.0',
        'gateway_replica_share{pool="large",replica="a"} 0.0',
        'gateway_replica_share{pool="small",replica="b"} 1.0',
        'gateway_ejections_total{pool="large"} 1.0',
        'gateway_ejections_total{pool="small"} 0.0',
    }
    tables.append(RouteTable(endpoints=(endpoint("b", "small"),)))
    live.look()
    assert not any('"a"' in line or '"large"' in line for line in lines())
