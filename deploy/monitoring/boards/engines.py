"""Engines, and the adapters that they hold."""

from __future__ import annotations

from typing import Final

from deploy.monitoring.panels import RATE, Board, Panel, Query, Row

ENGINES: Final = Board(
    uid="lorry-engines",
    title="Lorry: engines and adapters",
    about="What replicas report of themselves, and how many of them have proven each adapter.",
    variable="pool",
    variable_source="gateway_replicas",
    rows=(
        Row(
            title="Replicas",
            panels=(
                Panel(
                    title="Replicas by state",
                    about="Starting, ready, unhealthy and draining replicas of each pool.",
                    queries=(Query('max by (pool, state) (gateway_replicas{pool=~"$pool"})', "{{pool}} {{state}}"),),
                ),
                Panel(
                    title="Share of the usual traffic",
                    about="0 while a replica is ejected, below 1 in slow start or while it is late.",
                    queries=(Query('min by (replica) (gateway_replica_share{pool=~"$pool"})', "{{replica}}"),),
                    unit="percentunit",
                ),
                Panel(
                    title="Ejections",
                    about="Replicas that were ejected because they failed, in the last hour.",
                    queries=(
                        Query('sum by (pool) (increase(gateway_ejections_total{pool=~"$pool"}[1h]))', "{{pool}}"),
                    ),
                ),
                Panel(
                    title="Load of the engines",
                    about="Requests that run or wait in each engine.",
                    queries=(Query('max by (replica) (gateway_replica_load{pool=~"$pool"})', "{{replica}}"),),
                ),
                Panel(
                    title="Memory of the engines",
                    about="Resident memory of each engine's processes.",
                    queries=(Query('max by (replica) (gateway_replica_memory_bytes{pool=~"$pool"})', "{{replica}}"),),
                    unit="bytes",
                ),
                Panel(
                    title="Silence of replicas",
                    about="Seconds since a replica last reported itself.",
                    queries=(
                        Query(
                            'time() - max by (replica) (gateway_replica_heartbeat_timestamp_seconds{pool=~"$pool"})',
                            "{{replica}}",
                        ),
                    ),
                    unit="s",
                ),
            ),
        ),
        Row(
            title="Adapters",
            panels=(
                Panel(
                    title="Replicas of each adapter",
                    about="Ready replicas that have proven the stable and the canary. 0 of a stable: clients wait.",
                    queries=(
                        Query(
                            "max by (adapter, side, revision) (gateway_adapter_replicas)",
                            "{{adapter}} {{side}} {{revision}}",
                        ),
                    ),
                ),
                Panel(
                    title="Revisions by state",
                    about="Revisions that are loading, being proven, ready or failed, over the replicas of a pool.",
                    queries=(
                        Query(
                            "sum by (pool, state) (max by (replica, pool, state) "
                            '(gateway_replica_revisions{pool=~"$pool"}))',
                            "{{pool}} {{state}}",
                        ),
                    ),
                ),
                Panel(
                    title="Requests by revision",
                    about="Requests a second of each adapter's revisions; an empty revision is the base model.",
                    queries=(
                        Query(
                            f'sum by (adapter, revision) (rate(gateway_requests_total{{pool=~"$pool"}}[{RATE}]))',
                            "{{adapter}}@{{revision}}",
                        ),
                    ),
                    unit="reqps",
                ),
            ),
        ),
    ),
)
