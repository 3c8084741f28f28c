"""A step that waits for requests says how many came and how long the rest takes; or that nothing moves."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.cli.rollout.step_traffic import traffic_text
from gateway.objects.rollouts import RolloutObject

NOW = 5000.0
TRAFFIC: dict[str, Any] = {
    "canary_requests": 8,
    "stable_requests": 160,
    "needed": 100,
    "canary_per_min": 8.4,
    "stable_per_min": 160.0,
    "measured_s": 60.0,
    "last_request_at": NOW - 1.0,
    "at": NOW,
}


def text(state: str = "progressing", step: int = 0, **traffic: Any) -> str | None:
    verdict = {"decision": "hold", "reason": "too_few_samples", "message": "", "evidence": [], "step": 0}
    fields: dict[str, Any] = {
        "id": "r",
        "adapter": "support",
        "canary": "support@2",
        "stable": "support@1",
        "state": state,
        "steps": [5, 100],
        "every_s": None,
        "guardrails": None,
        "shadow_judge": None,
        "step": step,
        "canary_weight": 5,
        "shadow_percent": 0,
        "reason": "loaded",
        "message": "",
        "actor": "ann",
        "created_at": 1.0,
        "step_since": 1.0,
        "finished_at": None,
        "judged_at": NOW,
        "evidence": verdict | {"traffic": TRAFFIC | traffic},
    }
    return traffic_text(RolloutObject.model_validate(fields))


def test_the_side_that_takes_longest_is_counted_down() -> None:
    assert text() == "8 of 100 canary requests, about 11 min at this rate (8.4 a minute)"
    late = text(canary_requests=100, stable_requests=50, stable_per_min=100.0)
    assert late == "50 of 100 stable requests, about 30 s at this rate (100.0 a minute)"


@pytest.mark.parametrize(
    ("traffic", "end"),
    [
        ({"last_request_at": NOW - 40.0}, "no traffic: nothing moves"),
        ({"last_request_at": None, "measured_s": 40.0}, "no traffic: nothing moves"),
        ({"last_request_at": None, "measured_s": 3.0}, "waiting for traffic"),
        ({"measured_s": 2.0}, "their rate is being measured"),
        ({"canary_per_min": 0.0}, "none in the last minute"),
    ],
)
def test_no_time_is_made_up(traffic: dict[str, Any], end: str) -> None:
    assert text(**traffic) == f"8 of 100 canary requests, {end}"


def test_nothing_is_counted_where_nothing_is_waited_for() -> None:
    assert text(canary_requests=100) is None
    assert text(state="paused") is None
    assert text(step=1) is None
