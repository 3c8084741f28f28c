"""The report on a training file, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from corpus.report import Counted, Report, Spread
from gateway.cli.output import note, show, show_fields, warn


def show_report(report: Report) -> None:
    """Print the figures, then what to look at, the worst last so that it is seen."""
    show_fields(_fields(report))
    for finding in report.findings:
        if finding.level == "note":
            note(finding.text)
    for finding in report.findings:
        if finding.level == "warn":
            warn(finding.text)
    if not report.findings:
        show("Nothing to look at.")


def _fields(report: Report) -> Iterator[tuple[str, str]]:
    tokens = report.tokens
    by = f" (by {tokens.counted_by})" if tokens.counted_by else " (four bytes each; --model counts them)"
    yield "file", f"{report.file.name}, {report.file.bytes:,} bytes"
    yield "rows", f"{report.rows:,} {report.format}"
    yield "tokens", f"{'' if tokens.counted_by else 'about '}{tokens.spread.total:,.0f}{by}"
    yield "tokens of a row", _spread(tokens.spread)
    limits = f"{tokens.over_max_length.rows:,} over max_length {tokens.max_length:,}"
    yield (
        "lengths",
        limits + (f"; {tokens.over_context.rows:,} over the context of {tokens.context:,}" if tokens.context else ""),
    )
    yield "turns of a row", _spread(report.turns)
    yield "languages", _counts(report.languages, report.rows)
    yield "repeats", f"{report.exact.rows:,} equal to an earlier row, {report.near.rows:,} nearly equal"
    if report.leaks is not None:
        found = ", ".join(f"{leak.rows:,} {leak.kind}" for leak in report.leaks.found) or "none"
        yield "leaks", f"{found}, of {report.leaks.validation_rows:,} rows of {report.leaks.validation_file}"
    if report.answers:
        yield "answers", ", ".join(f"{hits.rows:,} {hits.kind}" for hits in report.answers)
    if report.personal:
        yield "secrets", ", ".join(f"{hits.rows:,} {hits.kind}" for hits in report.personal)
    if report.balance is not None:
        yield f"{report.balance.of}s", _counts(report.balance.counts, report.rows)
    if report.odd:
        yield "odd lines", ", ".join(str(row.line) for row in report.odd)
    yield "for review", f"{len(report.sample.lines):,} rows, drawn with the seed {report.sample.seed}"


def _spread(spread: Spread) -> str:
    return f"{spread.least:,.0f} to {spread.most:,.0f}, median {spread.median:,.0f}, 95 % up to {spread.p95:,.0f}"


def _counts(counts: Sequence[Counted], rows: int) -> str:
    return ", ".join(f"{each.name} {100 * each.rows / max(1, rows):.1f} %" for each in counts[:6])
