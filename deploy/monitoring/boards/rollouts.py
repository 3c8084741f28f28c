"""Rollouts: the canary beside the stable, the moves and their reasons."""

from __future__ import annotations

from typing import Final

from deploy.monitoring.panels import RATE, Board, Panel, Query, Row

_SIDES: Final = 'adapter=~"$adapter"'
_NAME: Final = "{{adapter}} {{side}}"


def _per_request(metric: str) -> str:
    """Return the expression of a count for each request of its side, 0 for a side that has requests and no count."""
    requests = f"sum by (adapter, side) (rate(gateway_rollout_requests_total{{{_SIDES}}}[{RATE}]))"
    counts = f"sum by (adapter, side) (rate({metric}{{{_SIDES}}}[{RATE}]))"
    return f"({counts} or 0 * {requests}) / {requests}"


def _quantile(metric: str) -> str:
    return f"histogram_quantile(0.95, sum by (adapter, side, le) (rate({metric}_bucket{{{_SIDES}}}[{RATE}])))"


ROLLOUTS: Final = Board(
    uid="lorry-rollouts",
    title="Lorry: rollouts",
    about="Each canary beside its stable on the figures that the judge compares, and the moves that followed.",
    variable="adapter",
    variable_source="gateway_rollout_state",
    rows=(
        Row(
            title="Moves",
            panels=(
                Panel(
                    title="Weight of the canary",
                    about="Percent of the conversations that the canary answers.",
                    queries=(Query(f"max by (adapter) (gateway_rollout_canary_weight{{{_SIDES}}})", "{{adapter}}"),),
                    unit="percent",
                ),
                Panel(
                    title="State of the latest rollout",
                    about="1 for the state that it is in.",
                    queries=(
                        Query(
                            f"max by (adapter, state) (gateway_rollout_state{{{_SIDES}}} == 1)", "{{adapter}} {{state}}"
                        ),
                    ),
                ),
                Panel(
                    title="Moves by reason",
                    about="All moves ever by state and reason; reasons that begin with watch_ took a promotion back.",
                    queries=(
                        Query(
                            f"max by (adapter, state, reason) (gateway_rollout_moves_total{{{_SIDES}}})",
                            "{{adapter}} {{state}}: {{reason}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            title="Evidence: canary beside stable",
            panels=(
                Panel(
                    title="Requests",
                    about="Requests a second that are evidence. Shadow sides are copies that no client saw.",
                    queries=(
                        Query(
                            f"sum by (adapter, side) (rate(gateway_rollout_requests_total{{{_SIDES}}}[{RATE}]))", _NAME
                        ),
                    ),
                    unit="reqps",
                ),
                Panel(
                    title="Errors per request",
                    about="The judge compares the canary's part with the stable's.",
                    queries=(Query(_per_request("gateway_rollout_errors_total"), _NAME),),
                    unit="percentunit",
                ),
                Panel(
                    title="Faulty answers per request",
                    about="Answers cut off by length, empty answers, and invalid JSON or tool calls.",
                    queries=(Query(_per_request("gateway_rollout_faults_total"), _NAME),),
                    unit="percentunit",
                ),
                Panel(
                    title="First token, 95th percentile",
                    about="From a request's arrival to the first token of its stream.",
                    queries=(Query(_quantile("gateway_rollout_ttft_seconds"), _NAME),),
                    unit="s",
                ),
                Panel(
                    title="Time per output token, 95th percentile",
                    about="Time of each token after the first.",
                    queries=(Query(_quantile("gateway_rollout_tpot_seconds"), _NAME),),
                    unit="s",
                ),
                Panel(
                    title="Tokens per answer",
                    about="A canary whose answers grow or shrink has learnt another manner.",
                    queries=(
                        Query(
                            f"sum by (adapter, side) (rate(gateway_rollout_output_tokens_total{{{_SIDES}}}[{RATE}])) / "
                            f"sum by (adapter, side) (rate(gateway_rollout_answers_total{{{_SIDES}}}[{RATE}]))",
                            _NAME,
                        ),
                    ),
                ),
                Panel(
                    title="Mean rating",
                    about="Mean score of the feedback, from 0 to 1.",
                    queries=(
                        Query(
                            f"(sum by (adapter, side) (gateway_rollout_feedback_score_total{{{_SIDES}}}) / "
                            f"sum by (adapter, side) (gateway_rollout_feedbacks_total{{{_SIDES}}}))",
                            _NAME,
                        ),
                    ),
                ),
                Panel(
                    title="Won comparisons",
                    about="Part of the pairs that the canary won before the judge model; a half is a tie.",
                    queries=(
                        Query(
                            f"(sum by (adapter) (gateway_rollout_wins_total{{{_SIDES}}}) / "
                            f"sum by (adapter) (gateway_rollout_comparisons_total{{{_SIDES}}}))",
                            "{{adapter}}",
                        ),
                    ),
                    unit="percentunit",
                ),
                Panel(
                    title="Counts not stored",
                    about="Failed attempts to store counts in the registry; they are repeated, and the judge waits.",
                    queries=(Query(f"sum(rate(gateway_observation_flush_failures_total[{RATE}]))", "failed"),),
                ),
            ),
        ),
    ),
)
