"""How often the canary's answer was the better one. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from registry.observation import Cell, Tally, total


def wins_of(cells: Mapping[Cell, Tally]) -> dict[str, float] | None:
    """How a judge model decided between both answers to copied requests; None where none was asked. Nobody's margin."""
    every = total(cells.values())
    if not every.comparisons:
        return None
    return {"comparisons": every.comparisons, "win_rate": every.win_sum / every.comparisons}
