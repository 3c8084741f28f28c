"""The figures as tables in Markdown, for terminals and for the documentation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from bench.comparison import figures
from bench.comparison.cases import Case
from bench.comparison.figures import OURS, Runs, Verdict
from bench.comparison.memory import Memory


def show_case(runs: Runs, case: Case, targets: Sequence[str]) -> str:
    """Return the table of one case, a row for each target."""
    rows = [(_stream_row if case.is_stream else _plain_row)(runs, case.name, target) for target in targets]
    head = _STREAM_COLUMNS if case.is_stream else _PLAIN_COLUMNS
    return f"**{case.name}**\n\n{table(head, rows)}"


_PLAIN_COLUMNS = ("target", "requests/s", "p50 ms", "p99 ms", "CPU s per 1,000 requests", "whole tree", "failed")
_STREAM_COLUMNS = (
    "target",
    "chunks/s",
    "added TTFT p50 ms",
    "added TTFT p99 ms",
    "streams seen",
    "CPU s per 100,000 chunks",
    "whole tree",
    "failed",
)


def _plain_row(runs: Runs, case: str, target: str) -> list[str]:
    def milliseconds(percentile: str) -> str:
        return number(runs.median(case, target, lambda run: (getattr(run.load.whole_us, percentile) or math.nan) / 1e3))

    return [
        target,
        number(runs.median(case, target, figures.requests_per_s)),
        milliseconds("p50"),
        milliseconds("p99"),
        *_cpu(runs, case, target, figures.cpu_per_request_ms, figures.whole_cpu_per_request_ms, 1.0),
        str(runs.failed(case, target)),
    ]


def _stream_row(runs: Runs, case: str, target: str) -> list[str]:
    return [
        target,
        number(runs.median(case, target, figures.chunks_per_s)),
        number(runs.added_first_token_ms(case, target, 0.5)),
        number(runs.added_first_token_ms(case, target, 0.99)),
        str(runs.streams(case, target)),
        *_cpu(runs, case, target, figures.cpu_per_chunk_us, figures.whole_cpu_per_chunk_us, 0.1),
        str(runs.failed(case, target)),
    ]


def _cpu(
    runs: Runs, case: str, target: str, serving: figures.Figure, whole: figures.Figure, scale: float
) -> tuple[str, str]:
    """Return the processor time of the serving processes, and of the whole tree where it is larger."""
    if target == figures.DIRECT:
        return "", ""
    shown = number(scale * runs.median(case, target, serving))
    return shown, number(scale * runs.median(case, target, whole)) if target == OURS else shown


def show_verdicts(found: Iterable[Verdict]) -> str:
    """Return the table of the project's targets and their results."""
    rows = [
        [one.wanted, one.case, number(one.ours), f"{number(one.theirs)} ({one.peer})", f"{one.ratio:.2f}", one.told]
        for one in found
    ]
    return table(("wanted", "case", "ours", "best peer", "ratio", ""), rows)


def show_memory(found: Iterable[Memory]) -> str:
    """Return the table of the memory after all runs."""
    rows = [[one.target, str(one.processes), number(one.serving_mb), number(one.whole_mb)] for one in found]
    return table(("target", "processes", "MB of those that serve", "MB of all"), rows)


def number(value: float) -> str:
    """Return *value* with three digits that count."""
    if math.isnan(value):
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown, its columns as wide as they need to be."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )
