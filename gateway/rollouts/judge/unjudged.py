"""Figures of both sides that are reported beside the guardrails and decide nothing. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry.rollouts.tally import Cell, Side, Tally, total


def unjudged_of(cells: Mapping[Cell, Tally]) -> dict[str, Any]:
    """Return `wins` and `lengths`, each None if unknown."""
    return {"wins": _wins(total(cells.values())), "lengths": _lengths(cells)}


def _wins(every: Tally) -> dict[str, float] | None:
    """Return how often a judge model preferred the canary's answer to copied requests."""
    if not every.comparisons:
        return None
    return {"comparisons": every.comparisons, "win_rate": every.win_sum / every.comparisons}


def _lengths(cells: Mapping[Cell, Tally]) -> dict[str, float] | None:
    """Return the mean tokens of an answer for each side."""
    sides = {side: total(tally for cell, tally in cells.items() if cell.side is side) for side in Side}
    canary, stable = sides[Side.CANARY], sides[Side.STABLE]
    if not (canary.answers and stable.answers):
        return None
    return {"canary": canary.output_tokens / canary.answers, "stable": stable.output_tokens / stable.answers}
