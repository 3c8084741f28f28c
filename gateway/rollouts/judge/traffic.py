"""How many requests a step has had of those that it needs, and how fast they come. Pure; decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from registry.rollouts.tally import Cell, Side, Tally

AVERAGED_S: Final = 60.0
"""The rates are means of about the last minute; of the time since the first look while that is shorter."""


def traffic_of(
    before: Mapping[str, Any] | None, cells: Mapping[Cell, Tally], step: int, needed: int, now: float
) -> dict[str, Any]:
    """Return the requests of both sides at *step* with their rates a minute; *before* is the last look at this step.

    The rates follow from the looks alone, so that a controller which takes over goes on where the last one stopped.
    """
    counts = {side: _requests(cells, side, step) for side in Side}
    traffic: dict[str, Any] = {
        "at": now,
        "needed": needed,
        "measured_s": 0.0,
        "last_request_at": None,
        **{f"{side}_requests": count for side, count in counts.items()},
        **{f"{side}_per_min": 0.0 for side in Side},
    }
    # A clock that was set back, or a first look, has nothing to measure from.
    if before is None or now <= before["at"]:
        return traffic
    passed_s = now - before["at"]
    measured_s = before["measured_s"] + passed_s
    weight = passed_s / min(measured_s, max(AVERAGED_S, passed_s))
    for side, count in counts.items():
        rate = 60.0 * max(0, count - before[f"{side}_requests"]) / passed_s
        traffic[f"{side}_per_min"] = (1 - weight) * before[f"{side}_per_min"] + weight * rate
    has_new = any(count > before[f"{side}_requests"] for side, count in counts.items())
    return traffic | {"measured_s": measured_s, "last_request_at": now if has_new else before["last_request_at"]}


def _requests(cells: Mapping[Cell, Tally], side: Side, step: int) -> int:
    return sum(tally.requests for cell, tally in cells.items() if cell.side is side and cell.step == step)
