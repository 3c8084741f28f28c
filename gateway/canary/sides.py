"""What stands for the two sides of a rollout in a shadow step. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from registry.observation import Cell, Side, Tally
from registry.rollout import Step

_COPIES: Final = {Side.SHADOW_CANARY: Side.CANARY, Side.SHADOW_STABLE: Side.STABLE}


def compared(cells: Mapping[Cell, Tally], steps: Sequence[Step]) -> dict[Cell, Tally]:
    """*cells* with the two kinds of copies as the sides of the shadow steps, and the real traffic as those of the rest.

    What stable answered its clients in a shadow step is left out: copies are made in quiet moments, so it is no equal.
    """
    shadow = {index for index, step in enumerate(steps) if step.shadow_percent}
    return {
        replace(cell, side=_COPIES.get(cell.side, cell.side)): tally
        for cell, tally in cells.items()
        if (cell.side in _COPIES) == (cell.step in shadow)
    }
