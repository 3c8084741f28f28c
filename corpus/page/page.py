"""The page of a report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import Final

from corpus.page.plots import bars, histogram, number
from corpus.report import Counted, Finding, Hits, Repeats, Report
from corpus.sentences import listed_lines

_NOTHING: Final = '<p class="soft">Nothing found.</p>'


def page_of(report: Report) -> str:
    """Return the whole HTML page; no part of the file's text is read as markup."""
    name = escape(report.file.name)
    style = files("corpus.page").joinpath("page.css").read_text()
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{name}: data report</title><style>{style}</style></head><body><main>"
        f"<h1>{name}</h1>"
        f'<div class="soft">{report.file.bytes:,} bytes · sha256 {report.file.sha256[:16]}… · '
        f"{escape(report.format)} · looked at in {report.seconds:.1f} s</div>"
        f'{_facts(report)}<div class="grid">{_cards(report)}</div></main></body></html>\n'
    )


def _facts(report: Report) -> str:
    tokens = report.tokens
    about = "" if tokens.counted_by else "about "
    facts = {
        "rows": f"{report.rows:,}",
        "lines with a fault": f"{sum(len(hits.lines) and hits.rows for hits in report.faults):,}",
        "tokens": f"{about}{number(tokens.spread.total)}",
        "turns in a row, mean": f"{report.turns.mean:g}",
        "equal to an earlier row": f"{report.exact.rows:,}",
        "nearly equal": f"{report.near.rows:,}",
        "rows to review": f"{len(report.sample.lines):,}",
    }
    return (
        '<div class="facts">' + "".join(f'<div class="fact"><b>{v}</b>{k}</div>' for k, v in facts.items()) + "</div>"
    )


def _cards(report: Report) -> Iterable[str]:
    tokens, total = report.tokens, report.rows
    by = f"by {tokens.counted_by}" if tokens.counted_by else "estimated, four bytes each"
    marks = {"max_length": tokens.max_length, "context": tokens.context, "95 % up to": round(tokens.spread.p95)}
    cards = [
        _card("Findings", _findings(report.findings), wide=True),
        _card(f"Tokens of a row ({by})", histogram(tokens.spread, "tokens", marks) + _longest(report)),
        _card("Characters of a row", histogram(report.characters, "characters", {})),
        _card("Turns of a row", histogram(report.turns, "turns", {})),
        _card("Languages", bars(report.languages, total)),
        _card("Answers", _hits(report.answers, "found")),
        _card("Secrets and personal data", _hits(report.personal, "form")),
        _card("Equal rows", _groups(report.exact)),
        _card("Nearly equal rows", _groups(report.near)),
        _card("Sentences that answers share", bars(report.phrases, total) if report.phrases else _NOTHING),
    ]
    if report.balance is not None:
        title = f"Balance of {report.balance.of}s"
        cards.append(_card(title, bars(report.balance.counts, sum(each.rows for each in report.balance.counts))))
    if report.leaks is not None:
        cards.append(_card("In training and validation", _leaks(report)))
    if report.faults:
        cards.append(_card("Lines with a fault", _hits(report.faults, "first message"), wide=True))
    cards.append(_card("The ten oddest rows", _odd(report), wide=True))
    sample = ", ".join(map(str, report.sample.lines))
    drawn = f'<p class="soft">Seed {report.sample.seed}; `lorry data review` writes a sheet of them.</p>'
    return "".join([*cards, _card("Rows drawn for review", f"{drawn}<pre>lines {sample}</pre>", wide=True)])


def _card(title: str, body: str, *, wide: bool = False) -> str:
    return f'<section class="card{" wide" if wide else ""}"><h2>{escape(title)}</h2>{body}</section>'


def _findings(findings: Sequence[Finding]) -> str:
    if not findings:
        return '<p class="soft">Nothing to look at.</p>'
    items = (f'<li><i class="{each.level}">{each.level}</i>{escape(each.text)}</li>' for each in findings)
    return "<ul>" + "".join(items) + "</ul>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    head = "".join(f"<th>{escape(head)}</th>" for head in heads)
    return f"<table><tr>{head}</tr>{body}</table>"


def _hits(found: Sequence[Hits], example: str) -> str:
    if not found:
        return _NOTHING
    return _table(
        ("", "rows", "lines", example),
        (
            (
                escape(hits.kind),
                f"{hits.rows:,}",
                listed_lines(hits.lines, hits.rows) if hits.lines else "",
                _pre(hits.example),
            )
            for hits in found
        ),
    )


def _groups(repeats: Repeats) -> str:
    if not repeats.groups:
        return _NOTHING
    return _table(
        ("rows", "lines", "the first"),
        ((f"{group.rows:,}", listed_lines(group.lines, group.rows), _pre(group.excerpt)) for group in repeats.groups),
    )


def _longest(report: Report) -> str:
    listed = ", ".join(f"line {line}: {tokens:,}" for line, tokens in report.tokens.longest[:5])
    return f'<p class="soft">Longest: {listed}</p>'


def _leaks(report: Report) -> str:
    leaks = report.leaks
    if leaks is None or not leaks.found:
        return _NOTHING
    counts = [Counted(name={"prompt": "same prompt"}.get(leak.kind, leak.kind), rows=leak.rows) for leak in leaks.found]
    pairs = ((leak.kind, ", ".join(f"{one} / {two}" for one, two in leak.pairs[:8])) for leak in leaks.found)
    return bars(counts, leaks.validation_rows) + _table(("", "lines in training / validation"), pairs)


def _odd(report: Report) -> str:
    if not report.odd:
        return _NOTHING
    return _table(
        ("line", "why", "row"),
        ((f"{row.line}", escape(", ".join(row.why)), _pre(row.excerpt)) for row in report.odd),
    )


def _pre(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"
