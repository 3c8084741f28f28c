"""Plots as SVG inside a page: bars of counts, and a histogram with marks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Final

from corpus.report import Counted, Spread

_WIDTH: Final = 560
_HEIGHT: Final = 165
_LEFT: Final = 8
_BOTTOM: Final = 32
_NAMED_BARS: Final = 8
_BAR_HEIGHT: Final = 22
_NAMES: Final = 190


def number(value: float) -> str:
    """Return a number as people read it."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.1f}"


def histogram(spread: Spread, unit: str, marks: Mapping[str, float | None]) -> str:
    """Return the histogram of whole numbers; *marks* are limits that get a line where they lie in it."""
    counts, edges = spread.histogram.counts, spread.histogram.edges
    most = max([*counts, 1])
    step = (_WIDTH - 2 * _LEFT) / len(counts)
    names = [_span(edges[at], edges[at + 1]) for at in range(len(counts))]
    if spread.most >= edges[-1]:
        names[-1] = f"{number(edges[-2])} and more"
    bars = []
    for at, count in enumerate(counts):
        height = 0 if not count else max(1.5, (_HEIGHT - _BOTTOM - 14) * count / most)
        bars.append(
            f'<rect x="{_LEFT + at * step:.1f}" y="{_HEIGHT - _BOTTOM - height:.1f}" rx="1.5" '
            f'width="{max(1.0, step - 1.5):.1f}" height="{height:.1f}">'
            f"<title>{escape(names[at])} {escape(unit)}: {count:,} rows</title></rect>"
        )
    label = escape(f"rows by {unit}")
    body = "".join([*bars, *_mark_lines(edges, marks), _axis(names, step, f"{unit}; most: {most:,} rows")])
    return f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{body}</svg>'


def _span(first: float, end: float) -> str:
    return number(first) if end - first <= 1 else f"{number(first)} to {number(end - 1)}"


def _mark_lines(edges: Sequence[float], marks: Mapping[str, float | None]) -> Iterator[str]:
    low, high = edges[0], edges[-1]
    for name, value in marks.items():
        if value is not None and low <= value <= high:
            x = _LEFT + (_WIDTH - 2 * _LEFT) * (value - low) / max(1e-9, high - low)
            anchor, shift = ("end", -4) if x > _WIDTH / 2 else ("start", 4)
            yield (
                f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{_HEIGHT - _BOTTOM}"/>'
                f'<text x="{x + shift:.1f}" y="12" text-anchor="{anchor}">{escape(name)} {number(value)}</text>'
            )


def _axis(names: Sequence[str], step: float, unit: str) -> str:
    """Return the names below the bars: all of few, else the first and the last, with the unit in the last line."""
    listed = range(len(names)) if len(names) <= _NAMED_BARS else (0, len(names) - 1)
    parts = [f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 3}" text-anchor="middle">{escape(unit)}</text>']
    for at in listed:
        is_end = len(names) > _NAMED_BARS
        anchor = ("start" if at == 0 else "end") if is_end else "middle"
        x = _LEFT + step * (at + {"start": 0.0, "end": 1.0, "middle": 0.5}[anchor])
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 18}" text-anchor="{anchor}">{escape(names[at])}</text>')
    return "".join(parts)


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
