"""Plots as SVG inside a page: bars of counts, and a histogram with marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from corpus.report import Counted, Histogram

_WIDTH: Final = 560
_HEIGHT: Final = 150
_LEFT: Final = 8
_BOTTOM: Final = 22
_BAR_HEIGHT: Final = 22
_NAMES: Final = 190


def number(value: float) -> str:
    """Return a number as people read it."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.1f}"


def histogram(found: Histogram, unit: str, marks: Mapping[str, float | None]) -> str:
    """Return the histogram; *marks* are limits that get a line where they lie in it."""
    counts, edges = found.counts, found.edges
    low, high, most = edges[0], edges[-1], max([*counts, 1])
    width = _WIDTH - 2 * _LEFT
    step = width / len(counts)
    bars = []
    for at, count in enumerate(counts):
        height = 0 if not count else max(1.5, (_HEIGHT - _BOTTOM - 14) * count / most)
        tip = f"{number(edges[at])} to {number(edges[at + 1])} {unit}: {count:,} rows"
        bars.append(
            f'<rect x="{_LEFT + at * step:.1f}" y="{_HEIGHT - _BOTTOM - height:.1f}" rx="1.5" '
            f'width="{max(1.0, step - 1.5):.1f}" height="{height:.1f}"><title>{escape(tip)}</title></rect>'
        )
    lines = []
    for name, value in marks.items():
        if value is not None and low <= value <= high:
            x = _LEFT + width * (value - low) / max(1e-9, high - low)
            anchor, shift = ("end", -4) if x > _WIDTH / 2 else ("start", 4)
            lines.append(
                f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{_HEIGHT - _BOTTOM}"/>'
                f'<text x="{x + shift:.1f}" y="12" text-anchor="{anchor}">{escape(name)} {number(value)}</text>'
            )
    foot = (
        f'<text x="{_LEFT}" y="{_HEIGHT - 6}">{number(low)}</text>'
        f'<text x="{_WIDTH - _LEFT}" y="{_HEIGHT - 6}" text-anchor="end">{number(high)} {escape(unit)}</text>'
        f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 6}" text-anchor="middle">most: {most:,} rows</text>'
    )
    label = escape(f"rows by {unit}")
    body = "".join([*bars, *lines, foot])
    return f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{body}</svg>'


def bars(counts: Sequence[Counted], total: int) -> str:
    """Return a bar for each count, with its share of *total* rows."""
    most = max([each.rows for each in counts] or [1])
    height = _BAR_HEIGHT * len(counts) + 4
    parts = []
    for at, each in enumerate(counts):
        y = at * _BAR_HEIGHT
        width = max(1.0, (_WIDTH - _NAMES - 130) * each.rows / max(1, most))
        name = each.name if len(each.name) <= 28 else each.name[:27] + "…"
        share = 100 * each.rows / max(1, total)
        parts.append(
            f'<text x="{_NAMES - 8}" y="{y + 15}" text-anchor="end">{escape(name)}'
            f"<title>{escape(each.name)}</title></text>"
            f'<rect x="{_NAMES}" y="{y + 3}" width="{width:.1f}" height="{_BAR_HEIGHT - 7}" rx="2"/>'
            f'<text x="{_NAMES + width + 6:.1f}" y="{y + 15}">{each.rows:,} · {share:.1f} %</text>'
        )
    return f'<svg class="plot" viewBox="0 0 {_WIDTH} {height}" role="img">{"".join(parts)}</svg>'
