"""The gateways: requests, errors, queues and limits."""

from __future__ import annotations

from typing import Final

from deploy.monitoring.panels import RATE, Board, Panel, Query, Row

GATEWAYS: Final = Board(
    uid="lorry-gateways",
    title="Lorry: gateways",
    about="What clients send, what they get back, and how long a gateway itself takes.",
    rows=(
        Row(
            title="Requests",
            panels=(
                Panel(
                    title="Requests by path and status",
                    about="Inference requests a second.",
                    queries=(
                        Query(f"sum by (path, status) (rate(gateway_requests_total[{RATE}]))", "{{path}} {{status}}"),
                    ),
                    unit="reqps",
                ),
                Panel(
                    title="Refusals by reason",
                    about="Requests that a gateway answered with an error of its own; the reason is the error's code.",
                    queries=(Query(f"sum by (reason) (rate(gateway_refused_total[{RATE}]))", "{{reason}}"),),
                    unit="reqps",
                ),
                Panel(
                    title="Cut short",
                    about="Clients that closed the connection, answers that ended with an error event, and requests "
                    "that were sent to a second replica.",
                    queries=(
                        Query(f"sum(rate(gateway_cancelled_total[{RATE}])) or vector(0)", "client left"),
                        Query(f"sum(rate(gateway_broken_streams_total[{RATE}])) or vector(0)", "broken stream"),
                        Query(f"sum(rate(gateway_retries_total[{RATE}])) or vector(0)", "retried"),
                    ),
                    unit="reqps",
                ),
            ),
        ),
        Row(
            title="Delay",
            panels=(
                Panel(
                    title="First byte",
                    about="From arrival to the first byte of an answer: median, 95th and 99th percentile.",
                    queries=tuple(
                        Query(
                            f"histogram_quantile({part}, "
                            f"sum by (le) (rate(gateway_first_byte_seconds_bucket[{RATE}])))",
                            f"p{part[2:]:0<2}",
                        )
                        for part in ("0.5", "0.95", "0.99")
                    ),
                    unit="s",
                ),
                Panel(
                    title="Own share of the delay",
                    about="Time of the gateway itself, without queues and engines.",
                    queries=tuple(
                        Query(
                            f"histogram_quantile({part}, sum by (le) (rate(gateway_overhead_seconds_bucket[{RATE}])))",
                            f"p{part[2:]:0<2}",
                        )
                        for part in ("0.5", "0.99")
                    ),
                    unit="s",
                ),
                Panel(
                    title="Wait in the queue, 95th percentile",
                    about="Wait for a place in the pool. It grows before clients see 429 or 503.",
                    queries=(
                        Query(
                            f"histogram_quantile(0.95, sum by (pool, le) (rate(gateway_queue_seconds_bucket[{RATE}])))",
                            "{{pool}}",
                        ),
                    ),
                    unit="s",
                ),
                Panel(
                    title="Queue",
                    about="Requests that wait, by pool.",
                    queries=(Query("sum by (pool) (gateway_queue_length)", "{{pool}}"),),
                ),
                Panel(
                    title="Requests in progress",
                    about="By replica; replicas of a pool should be alike.",
                    queries=(Query("sum by (replica) (gateway_requests_in_flight)", "{{replica}}"),),
                ),
                Panel(
                    title="Time per output token, 95th percentile",
                    about="Of complete streams, by adapter or base model.",
                    queries=(
                        Query(
                            "histogram_quantile(0.95, sum by (adapter, le) "
                            f"(rate(gateway_token_seconds_bucket[{RATE}])))",
                            "{{adapter}}",
                        ),
                    ),
                    unit="s",
                ),
            ),
        ),
        Row(
            title="Background",
            panels=(
                Panel(
                    title="Limits",
                    about="Requests over a key's limit, and requests that were counted without Redis.",
                    queries=(
                        Query(f"sum(rate(gateway_rate_limited_total[{RATE}])) or vector(0)", "over a limit"),
                        Query(f"sum(rate(gateway_limited_alone_total[{RATE}]))", "counted alone"),
                    ),
                    unit="reqps",
                ),
                Panel(
                    title="Loops",
                    about="1 for each background loop that runs; one at 0 has failed and is begun again.",
                    queries=(Query("min by (loop) (gateway_loop_up)", "{{loop}}"),),
                ),
                Panel(
                    title="Batches",
                    about="Requests of open batches without a result.",
                    queries=(Query("max(gateway_batch_lines_unanswered)", "unanswered"),),
                ),
            ),
        ),
    ),
)
