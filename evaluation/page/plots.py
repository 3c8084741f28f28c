"""Plots as SVG inside a page: scores with their intervals, and differences around zero."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

_WIDTH: Final = 640
_NAMES: Final = 170
_RIGHT: Final = 120
_ROW: Final = 26
_AXIS: Final = 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A value with its interval, and the name of what was measured."""

    name: str
    value: float
    low: float
    high: float
    note: str = ""


def intervals(found: Sequence[Measured], *, low: float, high: float, label: str) -> str:
    """Return a dot with whiskers for each value, on an axis from *low* to *high*; zero gets a line if it is inside."""
    height = _ROW * len(found) + _AXIS
    span = max(1e-9, high - low)

    def x(value: float) -> float:
        return _NAMES + (_WIDTH - _NAMES - _RIGHT) * (min(max(value, low), high) - low) / span

    parts = [_axis(x, low, high, height)]
    if low < 0 < high:
        parts.append(f'<line class="zero" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="0" y2="{height - _AXIS}"/>')
    for at, each in enumerate(found):
        y = at * _ROW + _ROW / 2
        name = each.name if len(each.name) <= 24 else each.name[:23] + "…"
        tip = f"{each.name}: {each.value:.3f}, 95 % from {each.low:.3f} to {each.high:.3f}"
        parts.append(
            f'<g><title>{escape(tip)}</title><text x="{_NAMES - 10}" y="{y + 5:.1f}" text-anchor="end">'
            f'{escape(name)}</text><line class="whisker" x1="{x(each.low):.1f}" x2="{x(each.high):.1f}" '
            f'y1="{y:.1f}" y2="{y:.1f}"/><circle cx="{x(each.value):.1f}" cy="{y:.1f}" r="5"/>'
            f'<text x="{_WIDTH - _RIGHT + 10}" y="{y + 5:.1f}">{each.value:.3f} {escape(each.note)}</text></g>'
        )
    body = "".join(parts)
    return f'<svg class="plot" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(label)}">{body}</svg>'


def _axis(x: Callable[[float], float], low: float, high: float, height: int) -> str:
    ticks = [low + (high - low) * part / 4 for part in range(5)]
    lines = (
        f'<line class="tick" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="0" y2="{height - _AXIS}"/>'
        f'<text x="{x(tick):.1f}" y="{height - 6}" text-anchor="middle">{tick:g}</text>'
        for tick in ticks
    )
    return "".join(lines)
