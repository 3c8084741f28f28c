"""The dashboard to look at first."""

from __future__ import annotations

from typing import Final

from deploy.monitoring.panels import RATE, Board, Panel, Query, Row

OVERVIEW: Final = Board(
    uid="lorry-overview",
    title="Lorry: overview",
    about="Whether clients are served, and which part needs a person. Each part has a dashboard of its own.",
    rows=(
        Row(
            title="Now",
            panels=(
                Panel(
                    title="Gateways",
                    about="Gateway processes that answered the scrape. Fewer than are configured: one died.",
                    queries=(Query('sum(gateway_processes{heard="true"})'),),
                    is_stat=True,
                    alarm_below=1,
                ),
                Panel(
                    title="Ready replicas",
                    about="Replicas that take requests. Zero: every request waits and then fails with 503.",
                    queries=(Query('sum(max by (pool, base, engine) (gateway_replicas{state="ready"}))'),),
                    is_stat=True,
                    alarm_below=1,
                ),
                Panel(
                    title="Registry",
                    about="1 while the registry answers. 0: clients are served by the last routes; jobs stand still.",
                    queries=(Query("min(gateway_registry_up)"),),
                    is_stat=True,
                    alarm_below=1,
                ),
                Panel(
                    title="Open rollouts",
                    about="Rollouts that are pending, progressing or paused.",
                    queries=(
                        Query(
                            "sum(max by (adapter, state) "
                            '(gateway_rollout_state{state=~"pending|progressing|paused"})) or vector(0)'
                        ),
                    ),
                    is_stat=True,
                ),
                Panel(
                    title="Aborted rollouts, 24 h",
                    about="Each kept the stable revision or gave it back; the rollouts' dashboard shows the reasons.",
                    queries=(
                        Query(
                            'sum(max by (adapter, reason) (gateway_rollout_moves_total{state="aborted"})) - '
                            '(sum(max by (adapter, reason) (gateway_rollout_moves_total{state="aborted"} offset 24h))'
                            " or vector(0)) or vector(0)"
                        ),
                    ),
                    is_stat=True,
                    alarm_above=1,
                ),
                Panel(
                    title="Waiting jobs",
                    about="Fine-tuning jobs in the queue.",
                    queries=(Query('max(gateway_jobs{state="queued"})'),),
                    is_stat=True,
                ),
            ),
        ),
        Row(
            title="Clients",
            panels=(
                Panel(
                    title="Requests by status",
                    about="Inference requests a second. A growing part of 5xx is what the alerts look at.",
                    queries=(Query(f"sum by (status) (rate(gateway_requests_total[{RATE}]))", "{{status}}"),),
                    unit="reqps",
                ),
                Panel(
                    title="First token, 95th percentile",
                    about="Time from the arrival of a streamed request to its first token, by adapter or base model.",
                    queries=(
                        Query(
                            "histogram_quantile(0.95, sum by (adapter, le) "
                            f'(rate(gateway_first_byte_seconds_bucket{{streamed="true"}}[{RATE}])))',
                            "{{adapter}}",
                        ),
                    ),
                    unit="s",
                ),
                Panel(
                    title="Tokens a second",
                    about="Tokens of prompts and answers over all models.",
                    queries=(
                        Query(f"sum(rate(gateway_prompt_tokens_total[{RATE}]))", "prompt"),
                        Query(f"sum(rate(gateway_completion_tokens_total[{RATE}]))", "completion"),
                    ),
                ),
            ),
        ),
        Row(
            title="Machine",
            panels=(
                Panel(
                    title="Free disk",
                    about="Room on the disks of LORRY_HOME and of the artifacts, as a part of their size.",
                    queries=(
                        Query(
                            "min by (folder) (gateway_disk_free_bytes / gateway_disk_size_bytes)",
                            "{{folder}}",
                        ),
                    ),
                    unit="percentunit",
                ),
                Panel(
                    title="Silence of controller and trainer",
                    about="Seconds since each was last seen at work. More than two minutes is an alert.",
                    queries=(Query("time() - max by (part) (gateway_part_timestamp_seconds)", "{{part}}"),),
                    unit="s",
                ),
                Panel(
                    title="Age of routes and keys",
                    about="Seconds since a gateway last read the registry. It grows while the registry is away.",
                    queries=(
                        Query("time() - min(gateway_route_table_timestamp_seconds)", "routes"),
                        Query("time() - min(gateway_keys_timestamp_seconds)", "keys"),
                    ),
                    unit="s",
                ),
            ),
        ),
    ),
)
