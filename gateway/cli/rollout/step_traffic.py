"""Requests that a judged step still waits for, and for how long at the rate at which they come. Pure."""

from __future__ import annotations

from typing import Final

from gateway.cli.following.rough_times import rough_time
from gateway.objects.rollouts import RolloutObject, StepTraffic
from registry.rollouts.rollout_state import RolloutState

QUIET_S: Final = 30.0
"""Without a request for so long there is no traffic, whatever the mean of the last minute says."""
MEASURED_S: Final = 5.0
"""A rate of a shorter time means nothing."""


def traffic_text(rollout: RolloutObject) -> str | None:
    """Return `8 of 100 canary requests, about 11 min at this rate (8 a minute)`; None where nothing is waited for."""
    verdict = rollout.evidence
    if rollout.state is not RolloutState.PROGRESSING or verdict is None or verdict.traffic is None:
        return None
    if verdict.step != rollout.step:
        return None
    traffic = verdict.traffic
    lacking = {
        side: (have, per_min)
        for side, have, per_min in (
            ("canary", traffic.canary_requests, traffic.canary_per_min),
            ("stable", traffic.stable_requests, traffic.stable_per_min),
        )
        if have < traffic.needed
    }
    if not lacking:
        return None
    side = max(lacking, key=lambda each: _minutes(traffic.needed, *lacking[each]))
    have, per_min = lacking[side]
    return f"{have:,} of {traffic.needed:,} {side} requests, {_when(traffic, have, per_min)}"


def _when(traffic: StepTraffic, have: int, per_min: float) -> str:
    # All times are the controller's, whose clock may differ from that of this machine.
    if traffic.last_request_at is None:
        return "no traffic: nothing moves" if traffic.measured_s >= QUIET_S else "waiting for traffic"
    if traffic.at - traffic.last_request_at > QUIET_S:
        return "no traffic: nothing moves"
    if traffic.measured_s < MEASURED_S:
        return "their rate is being measured"
    if not per_min:
        return "none in the last minute"
    left = rough_time(60 * _minutes(traffic.needed, have, per_min))
    return f"{left} at this rate ({per_min:,.1f} a minute)"


def _minutes(needed: int, have: int, per_min: float) -> float:
    return (needed - have) / per_min if per_min else float("inf")
