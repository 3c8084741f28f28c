"""The refusal at submit of a job too many of whose rows do not fit, where the report on the file has their lengths."""

from __future__ import annotations

from collections.abc import Iterator

from corpus.report import Report, Tokens
from gateway.errors import InvalidRequest
from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.unfit_rows import ROW_TOO_LONG, UnfitReason, UnfitRows
from registry.database import Registry


def refuse_unfit(spec: FineTuneSpec, registry: Registry) -> None:
    """Raise `InvalidRequest` if reports on the job's files show more unfit rows than it allows. Reads the registry.

    A file whose report is not there yet, or counts by another base model, is left to the training process.
    """
    for field, file_id in spec.files().items():
        found = registry.reports.report(registry.files.get(file_id).digest)
        report = None if found is None else Report.model_validate(found)
        if report is None or report.tokens.counted_by != spec.base:
            continue
        unfit = unfit_rows_of(report, spec)
        if unfit.exceeds(spec.most_unfit_rows):
            raise InvalidRequest(unfit.refusal(field, spec.most_unfit_rows, spec.unfit_choices), param=field)


def unfit_rows_of(report: Report, spec: FineTuneSpec) -> UnfitRows:
    """Return the rows of the report that surely do not fit *spec*: all of them, or fewer for another `max_length`."""
    reasons = [*_too_long(report.tokens, spec), *_refused(report.tokens)]
    cut = sum(reason.rows for reason in reasons if reason.is_cut)
    total = sum(reason.rows for reason in reasons)
    return UnfitRows(rows=report.rows, dropped=total - cut, cut=cut, reasons=tuple(reasons))


def _too_long(tokens: Tokens, spec: FineTuneSpec) -> Iterator[UnfitReason]:
    most = spec.max_length
    longest = [(line, length) for line, length in tokens.longest if length > most]
    rows = max(len(longest), _over(tokens, most))
    if rows:
        line, length = longest[0]
        yield UnfitReason(
            reason=ROW_TOO_LONG,
            is_cut=spec.unfit_rows == "cut",
            rows=rows,
            lines=tuple(sorted(line for line, _ in longest)),
            longest=length,
            example=f"line {line}: {length} tokens, more than max_length {most}",
        )


def _over(tokens: Tokens, most: int) -> int:
    """Return how many rows have surely more than *most* tokens."""
    if tokens.spread.most <= most:
        return 0
    if most == tokens.max_length:
        return tokens.over_max_length.rows
    # The last bin holds all rows beyond it too, at its upper edge.
    histogram = tokens.spread.histogram
    return sum(count for edge, count in zip(histogram.edges, histogram.counts, strict=False) if edge > most)


def _refused(tokens: Tokens) -> Iterator[UnfitReason]:
    for hits in tokens.refused:
        why = f"line {hits.lines[0]}: the base model's chat template refuses it: {hits.kind}"
        yield UnfitReason(reason="template_refused", is_cut=False, rows=hits.rows, lines=tuple(hits.lines), example=why)
