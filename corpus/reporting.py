"""From joined findings to the report, with sentences for people."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from corpus.chat_tokens import read_context
from corpus.chunk import Tallies
from corpus.duplicates import equal_groups, equal_pairs, near_groups, near_pairs
from corpus.excerpts import excerpts_of
from corpus.findings_joined import Joined
from corpus.oddity import oddest
from corpus.report import (
    LISTED_LINES,
    Balance,
    Counted,
    FileFacts,
    Group,
    Histogram,
    Hits,
    Leak,
    Leaks,
    OddRow,
    Repeats,
    Report,
    Sample,
    Spread,
    Tokens,
)
from corpus.sampling import drawn, seed_of
from corpus.sentences import findings_of
from registry.contracts.training_formats import MINIMUM_ROWS

_BINS: Final = 24
_LISTED_GROUPS: Final = 10
_LISTED_LANGUAGES: Final = 12
_MOST_LABELS: Final = 30
_PHRASES: Final = 12
_PHRASE_SHARE: Final = 0.005
_FEWEST_PHRASE_ROWS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportWishes:
    """Facts of a report beside the findings."""

    file: FileFacts
    model: Path | None
    model_name: str | None
    max_length: int
    seed: int | None
    leaks: Leaks | None
    began: float


def report_on(joined: Joined, path: Path, wishes: ReportWishes) -> Report:
    """Return the report on the file at *path*, from which only excerpts are read again."""
    arrays = joined.arrays or _no_rows()
    lines = arrays["lines"]
    equal = equal_groups(arrays["digests"])
    near = near_groups(arrays["signatures"], arrays["digests"])
    odd = oddest(arrays["features"])
    wanted = [int(lines[group[0]]) for group in [*equal[:_LISTED_GROUPS], *near[:_LISTED_GROUPS]]]
    excerpts = excerpts_of(path, [*wanted, *(int(lines[place]) for place, _, _ in odd)])
    seed = wishes.seed if wishes.seed is not None else seed_of(wishes.file.sha256)
    report = Report(
        file=wishes.file,
        format=joined.plural or "lines",
        rows=joined.rows,
        faults=_faults(joined),
        tool_rows=joined.tool_rows,
        pictures=joined.pictures,
        turns=_spread(arrays["turns"]),
        characters=_spread(arrays["characters"]),
        tokens=_tokens(joined.refused, arrays, wishes),
        languages=_counted(joined.languages, _LISTED_LANGUAGES),
        exact=_repeats(equal, lines, excerpts),
        near=_repeats(near, lines, excerpts),
        leaks=wishes.leaks,
        answers=_hits(joined.answers),
        phrases=_phrases(joined),
        personal=_hits(joined.personal),
        balance=_balance(joined),
        odd=[
            OddRow(line=int(lines[place]), score=round(score, 2), why=why, excerpt=excerpts[int(lines[place])])
            for place, score, why in odd
        ],
        sample=Sample(seed=seed, lines=drawn([int(line) for line in lines], seed) if len(lines) else []),
        seconds=round(time.monotonic() - wishes.began, 2),
    )
    return report.model_copy(update={"findings": findings_of(report)})


def leaks_between(ours: Joined, theirs: Joined, name: str) -> Leaks:
    """Return what the rows of *theirs*, a validation file called *name*, share with ours."""
    mine, other = ours.arrays or _no_rows(), theirs.arrays or _no_rows()
    equal = [*equal_pairs(mine["digests"], other["digests"])]
    taken = {place for _, place in equal}
    near = [pair for pair in near_pairs(mine["signatures"], other["signatures"]) if pair[1] not in taken]
    taken |= {place for _, place in near}
    prompts = [pair for pair in equal_pairs(mine["prompts"], other["prompts"]) if pair[1] not in taken]
    kinds: tuple[tuple[Literal["exact", "near", "prompt"], list[tuple[int, int]]], ...] = (
        ("exact", equal),
        ("near", near),
        ("prompt", prompts),
    )
    found = [
        Leak(
            kind=kind,
            rows=len(pairs),
            pairs=[(int(mine["lines"][one]), int(other["lines"][two])) for one, two in pairs[:LISTED_LINES]],
        )
        for kind, pairs in kinds
        if pairs
    ]
    return Leaks(validation_file=name, validation_rows=theirs.rows, found=found)


def _no_rows() -> dict[str, Any]:
    none = np.zeros(0, dtype=np.int64)
    flat = dict.fromkeys(("lines", "turns", "characters", "tokens"), none)
    digests = np.zeros(0, dtype=np.uint64)
    shaped = {"signatures": np.zeros((0, 128), dtype=np.uint32), "features": np.zeros((0, 5), dtype=np.float32)}
    return {**flat, "digests": digests, "prompts": digests, **shaped}


def _faults(joined: Joined) -> list[Hits]:
    found = _hits(joined.faults)
    if joined.rows < MINIMUM_ROWS:
        few = f"the file has {joined.rows} rows without a fault; at least {MINIMUM_ROWS} are needed"
        found.append(Hits(kind=few, rows=joined.rows, lines=[]))
    return found


def _hits(tallies: Tallies) -> list[Hits]:
    made = [Hits(kind=kind, rows=each.rows, lines=each.lines, example=each.example) for kind, each in tallies.items()]
    return sorted(made, key=lambda hits: -hits.rows)


def _spread(values: Any) -> Spread:
    if not len(values):
        return Spread(
            least=0, median=0, mean=0, p95=0, most=0, total=0, histogram=Histogram(edges=[0.0, 1.0], counts=[0])
        )
    # The last bin takes all beyond the 99th percentile, so that one giant does not flatten the rest.
    top = int(np.percentile(values, 99)) if len(values) > 50 else int(values.max())
    low = int(values.min())
    # Lengths are whole numbers: bins of an equal count of them leave no gaps.
    width = math.ceil((top - low + 1) / _BINS)
    edges = np.arange(low, top + width + 1, width)
    counts = np.histogram(np.minimum(values, edges[-1] - 1), bins=edges)[0]
    return Spread(
        least=low,
        median=float(np.median(values)),
        mean=round(float(values.mean()), 2),
        p95=float(np.percentile(values, 95)),
        most=float(values.max()),
        total=float(values.sum()),
        histogram=Histogram(edges=[float(edge) for edge in edges], counts=[int(count) for count in counts]),
    )


def _tokens(refused: Tallies, arrays: dict[str, Any], wishes: ReportWishes) -> Tokens:
    tokens, lines = arrays["tokens"], arrays["lines"]
    context = None if wishes.model is None else read_context(wishes.model)

    def over(limit: float) -> Hits:
        places = np.flatnonzero(tokens > limit)
        return Hits(kind=f"over {limit:g} tokens", rows=len(places), lines=lines[places][:LISTED_LINES].tolist())

    longest = np.argsort(-tokens, kind="stable")[:10]
    return Tokens(
        counted_by=wishes.model_name,
        context=context,
        max_length=wishes.max_length,
        spread=_spread(tokens),
        longest=[(int(lines[place]), int(tokens[place])) for place in longest],
        over_max_length=over(wishes.max_length),
        over_context=over(context if context is not None else float("inf")),
        refused=_hits(refused),
    )


def _counted(counts: Counter[str], most: int) -> list[Counted]:
    listed = counts.most_common(most)
    rest = sum(counts.values()) - sum(count for _, count in listed)
    more = [Counted(name="others", rows=rest)] if rest else []
    return [Counted(name=name, rows=count) for name, count in listed] + more


def _repeats(groups: Sequence[Any], lines: Any, excerpts: dict[int, str]) -> Repeats:
    return Repeats(
        rows=sum(len(group) - 1 for group in groups),
        groups=[
            Group(
                rows=len(group),
                lines=[int(lines[place]) for place in group[:LISTED_LINES]],
                excerpt=excerpts[int(lines[group[0]])],
            )
            for group in groups[:_LISTED_GROUPS]
        ],
    )


def _phrases(joined: Joined) -> list[Counted]:
    fewest = max(_FEWEST_PHRASE_ROWS, _PHRASE_SHARE * joined.rows)
    labels: Iterable[str] = (phrase for phrase, count in joined.phrases.most_common(_PHRASES) if count >= fewest)
    return [Counted(name=phrase, rows=joined.phrases[phrase]) for phrase in labels]


def _balance(joined: Joined) -> Balance | None:
    if joined.labels:
        return _balanced("label", joined.labels)
    answers = joined.short_answers
    total = sum(answers.values())
    are_labels = total >= 0.9 * joined.rows and 2 <= len(answers) <= min(_MOST_LABELS, joined.rows // 5)
    return _balanced("answer", answers) if are_labels else None


def _balanced(of: Literal["label", "answer"], counts: Counter[str]) -> Balance:
    share = counts.most_common(1)[0][1] / sum(counts.values())
    return Balance(of=of, counts=_counted(counts, _MOST_LABELS), most_share=round(share, 4))
