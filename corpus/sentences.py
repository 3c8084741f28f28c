"""The findings of a report, in sentences with numbers: errors first, then what to look at, then what to know."""

from __future__ import annotations

from collections.abc import Iterator

from corpus.report import Finding, Hits, Report
from registry.contracts.unfit_rows import MOST_UNFIT_ROWS

_ANSWERS = {
    "empty": "an answer that is empty or a placeholder",
    "refusing": "an answer that refuses: the model learns to refuse such requests",
    "truncated": "an answer that breaks off: the model learns to stop in the middle",
    "looping": "an answer that repeats itself",
}
_LEAKS = {
    "exact": "in the training file too",
    "near": "nearly equal to a row of the training file",
    "prompt": "with a prompt of the training file and another answer",
}
_ONE_SIDED = 0.8
_MANY_LANGUAGES = 0.02


def findings_of(report: Report) -> list[Finding]:
    """Return the findings, the worst first."""
    found = [
        *_faults(report),
        *_lengths(report),
        *_repeats(report),
        *_leaks(report),
        *_contents(report),
        *_notes(report),
    ]
    order = {"error": 0, "warn": 1, "note": 2}
    return sorted(found, key=lambda finding: order[finding.level])


def rows_of(hits: Hits) -> str:
    """Return the number of rows and the first lines."""
    return f"{_rows(hits.rows)} ({lines_of(hits.lines, hits.rows)})"


def _have(rows: int) -> str:
    return "has" if rows == 1 else "have"


def _are(rows: int) -> str:
    return "is" if rows == 1 else "are"


def lines_of(lines: list[int], rows: int) -> str:
    """Return the first lines of so many rows, after the word `line`."""
    return f"line{'s' if rows > 1 else ''} {listed_lines(lines, rows)}"


def listed_lines(lines: list[int], rows: int) -> str:
    """Return the first lines of so many rows."""
    return f"{', '.join(map(str, lines[:5]))}{', …' if rows > min(5, len(lines)) else ''}"


def _rows(count: int) -> str:
    return f"{count:,} row{'s' if count != 1 else ''}"


def _faults(report: Report) -> Iterator[Finding]:
    for hits in report.faults:
        where = f"{lines_of(hits.lines, hits.rows)}: " if hits.lines else ""
        count = f" ({hits.rows:,} lines)" if len(hits.lines) and hits.rows > 1 else ""
        yield Finding(level="error", about="faults", text=f"{where}{hits.kind}{count}")


def _lengths(report: Report) -> Iterator[Finding]:
    tokens = report.tokens
    for hits in tokens.refused:
        text = f"{rows_of(hits)} {_are(hits.rows)} refused by the chat template of {tokens.counted_by}: {hits.kind}"
        yield Finding(level="error", about="tokens", text=text)
    if hits_over := tokens.over_context.rows:
        over = tokens.over_context
        text = f"{rows_of(over)} {_are(over.rows)} longer than the context of {tokens.context:,} tokens"
        yield Finding(level="error", about="tokens", text=text)
    if tokens.over_max_length.rows > hits_over:
        yield Finding(level="warn", about="tokens", text=_too_long(report))


def _too_long(report: Report) -> str:
    tokens = report.tokens
    over, about = tokens.over_max_length, "" if tokens.counted_by else "about "
    line, most = tokens.longest[0]
    unfit = over.rows + sum(hits.rows for hits in tokens.refused)
    what = (
        "A job leaves such rows out"
        if unfit <= MOST_UNFIT_ROWS * report.rows
        else "A job is refused unless max_length or most_unfit_rows is raised"
    )
    return (
        f"{rows_of(over)} {_have(over.rows)} more than {about}{tokens.max_length:,} tokens, the max_length; the "
        f"longest (line {line}) has {most:,}. {what}"
    )


def _repeats(report: Report) -> Iterator[Finding]:
    for repeats, what in ((report.exact, "equal"), (report.near, "nearly equal")):
        if repeats.rows:
            first = repeats.groups[0]
            text = (
                f"{_rows(repeats.rows)} {_are(repeats.rows)} {what} to an earlier one; the largest "
                f"group has {first.rows:,} rows ({lines_of(first.lines, first.rows)})"
            )
            yield Finding(level="warn", about="repeats", text=text)


def _leaks(report: Report) -> Iterator[Finding]:
    if report.leaks is None:
        return
    for leak in report.leaks.found:
        mine, theirs = leak.pairs[0]
        text = (
            f"{report.leaks.validation_file} has {_rows(leak.rows)} {_LEAKS[leak.kind]}, such as its line {theirs} "
            f"(training line {mine}): the validation loss says less than it seems to"
        )
        yield Finding(level="warn", about="leaks", text=text)


def _contents(report: Report) -> Iterator[Finding]:
    for hits in report.answers:
        yield Finding(level="warn", about="answers", text=f"{rows_of(hits)} {_have(hits.rows)} {_ANSWERS[hits.kind]}")
    for hits in report.personal:
        text = f"{rows_of(hits)} {_have(hits.rows)} what looks like: {hits.kind}, such as {hits.example}"
        yield Finding(level="warn", about="personal", text=text)
    balance = report.balance
    if balance is not None and balance.most_share >= _ONE_SIDED:
        most = balance.counts[0]
        text = f"{100 * balance.most_share:.0f} % of the rows have the {balance.of} {most.name!r}"
        yield Finding(level="warn", about="balance", text=text)


def _notes(report: Report) -> Iterator[Finding]:
    if report.phrases:
        first = report.phrases[0]
        text = f"{_rows(first.rows)} share the sentence {first.name!r}"
        yield Finding(level="note", about="phrases", text=text)
    named = [each for each in report.languages if each.name not in ("unclear", "others")]
    rare = [each for each in named[1:] if each.rows < _MANY_LANGUAGES * report.rows]
    if rare:
        listed = ", ".join(f"{each.name} {each.rows:,}" for each in rare[:5])
        yield Finding(level="note", about="languages", text=f"most rows are in {named[0].name}; a few are in: {listed}")
    if report.tool_rows:
        rows = f"{_rows(report.tool_rows)} {_have(report.tool_rows)} tools"
        text = f"{rows}, in the form that the base model's chat template has, or Hermes'"
        yield Finding(level="note", about="tools", text=text)
    if report.pictures:
        text = (
            f"{report.pictures:,} pictures: the base model has to take pictures; those outside the file were not read"
        )
        yield Finding(level="note", about="pictures", text=text)
