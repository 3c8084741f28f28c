"""Findings in a part of a file; parts are looked at in processes of their own."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from corpus.chat_tokens import TokenCounter
from corpus.findings.answers import faults_of_answer
from corpus.findings.languages import LanguageFinder
from corpus.findings.personal import PersonalFinder
from corpus.findings.shingles import Signatures, digest_of, plain, signatures_of
from corpus.oddity import FEATURES
from corpus.report import LISTED_LINES
from corpus.row_view import RowView, view_of
from registry.contracts.training_formats import LineFormat, LineParser, TrainingLine
from registry.errors import TrainingFileInvalid

BYTES_OF_A_TOKEN: Final = 4
_SENTENCE: Final = re.compile(r"[^.!?\u3002\uff01\uff1f\n]{12,160}[.!?\u3002\uff01\uff1f]?")
_SIGNS: Final = re.compile(r"[^\w\s]")
_SHORT_ANSWER: Final = 40
_FEWEST_REPEATS: Final = 2
_MANY_ROWS: Final = 500

Numbers = NDArray[np.int64]


@dataclass(slots=True)
class Tally:
    """How many rows have something, and the first of them."""

    rows: int = 0
    lines: list[int] = field(default_factory=list)
    example: str = ""

    def add(self, line: int, example: str = "") -> None:
        """Count a row."""
        self.rows += 1
        self.example = self.example or example
        if len(self.lines) < LISTED_LINES:
            self.lines.append(line)

    def join(self, other: Tally) -> None:
        """Count the rows of a later part."""
        self.rows += other.rows
        self.example = self.example or other.example
        self.lines += other.lines[: LISTED_LINES - len(self.lines)]


Tallies = dict[str, Tally]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkFindings:
    """The findings of a part of a file; arrays have an entry for each row without a fault."""

    lines: Numbers
    turns: Numbers
    characters: Numbers
    tokens: Numbers
    digests: NDArray[np.uint64]
    prompts: NDArray[np.uint64]
    """Digests of the prompts alone."""
    signatures: Signatures
    features: NDArray[np.float32]
    faults: Tallies
    refused: Tallies
    answers: Tallies
    personal: Tallies
    languages: Counter[str]
    labels: Counter[str]
    short_answers: Counter[str]
    """Answers that may be labels."""
    phrases: Counter[str]
    tool_rows: int
    pictures: int
    plural: str
    """The format of the lines; empty where none could be read."""


@dataclass(frozen=True, kw_only=True)
class Looker:
    """Looks at parts of files of one format."""

    formats: tuple[LineFormat[TrainingLine], ...]
    model: Path | None
    only_repeats: bool = False
    """Only what finds repeats, for a file that another is compared with."""

    @cached_property
    def _counter(self) -> TokenCounter | None:
        return None if self.model is None else TokenCounter(self.model)

    @cached_property
    def _personal(self) -> PersonalFinder:
        return PersonalFinder()

    @cached_property
    def _languages(self) -> LanguageFinder:
        return LanguageFinder()

    def look(self, part: Sequence[tuple[int, bytes]]) -> ChunkFindings:
        """Return the findings of numbered lines."""
        faults: Tallies = {}
        rows = self._parsed(part, faults)
        views = [view_of(row) for row in rows]
        texts = [plain(view.text) for view in views]
        refused: Tallies = {}
        tokens = self._tokens(rows, views, refused)
        found = _Found()
        if not self.only_repeats:
            for view in views:
                self._note(view, found)
        return ChunkFindings(
            lines=np.array([row.line for row in rows], dtype=np.int64),
            turns=np.array([view.turns for view in views], dtype=np.int64),
            characters=np.array([row.characters for row in rows], dtype=np.int64),
            tokens=tokens,
            digests=np.array([digest_of(text) for text in texts], dtype=np.uint64),
            prompts=np.array([digest_of(plain(view.prompt)) for view in views], dtype=np.uint64),
            signatures=signatures_of(texts),
            features=np.array([_features(view) for view in views], dtype=np.float32).reshape(-1, len(FEATURES)),
            faults=faults,
            refused=refused,
            answers=found.answers,
            personal=found.personal,
            languages=found.languages,
            labels=Counter(view.label for view in views if view.label is not None),
            short_answers=Counter(
                view.last_answer.strip() for view in views if 0 < len(view.last_answer) <= _SHORT_ANSWER
            ),
            phrases=_shared(found.phrases, len(rows)),
            tool_rows=sum(view.has_tools for view in views),
            pictures=sum(view.pictures for view in views),
            plural=self.formats[0].plural if rows else "",
        )

    def _parsed(self, part: Sequence[tuple[int, bytes]], faults: Tallies) -> list[TrainingLine]:
        rows = []
        parser: LineParser[Any] = LineParser(self.formats)
        for number, line in part:
            try:
                rows.append(parser.parse(line, number))
            except TrainingFileInvalid as exc:
                faults.setdefault(_reason(str(exc)), Tally()).add(number, str(exc))
        return rows

    def _tokens(self, rows: Sequence[TrainingLine], views: Sequence[RowView], refused: Tallies) -> Numbers:
        if self._counter is None or self.only_repeats:
            lengths = [-(-len(view.text.encode()) // BYTES_OF_A_TOKEN) for view in views]
        else:
            lengths = []
            for row, counted in zip(rows, self._counter.count(rows), strict=True):
                lengths.append(counted.tokens)
                if counted.refused:
                    refused.setdefault(counted.refused, Tally()).add(row.line)
        return np.array(lengths, dtype=np.int64)

    def _note(self, view: RowView, found: _Found) -> None:
        found.languages[self._languages.language(f"{view.last_answer[:70]} {view.prompt[-50:]}")] += 1
        for hit in self._personal.find(view.text):
            found.personal.setdefault(hit.kind, Tally()).add(view.line, hit.shown)
        faults = {kind for answer in view.answers for kind in faults_of_answer(answer)}
        for kind in sorted(faults):
            found.answers.setdefault(kind, Tally()).add(view.line, view.last_answer[:80])
        found.phrases.update({sentence.strip() for answer in view.answers for sentence in _SENTENCE.findall(answer)})


@dataclass(slots=True)
class _Found:
    answers: Tallies = field(default_factory=dict)
    personal: Tallies = field(default_factory=dict)
    languages: Counter[str] = field(default_factory=Counter)
    phrases: Counter[str] = field(default_factory=Counter)


def _shared(phrases: Counter[str], rows: int) -> Counter[str]:
    """Return the sentences worth counting on: in a large part only those of several rows, or memory would fill."""
    if rows < _MANY_ROWS:
        return phrases
    return Counter({phrase: count for phrase, count in phrases.items() if count >= _FEWEST_REPEATS})


def _features(view: RowView) -> tuple[float, ...]:
    text = view.text[:4000]
    raw = text.encode(errors="replace")
    signs = len(_SIGNS.findall(text)) + text.count("_")
    packed = len(zlib.compress(raw, 1)) / max(40, len(raw))
    return (
        float(np.log1p(len("\n".join(view.answers)))),
        float(np.log1p(len(view.prompt))),
        signs / max(1, len(text)),
        packed,
        float(np.log1p(view.turns)),
    )


def _reason(message: str) -> str:
    """Return the fault without its place, so that equal faults of other lines are counted together."""
    text = re.sub(r"^line \d+: ", "", message.split("\n", 1)[0])
    text = re.sub(r"but line \d+ is", "but an earlier line is", text)
    text = re.sub(r"\[\d+\]", "[]", text)
    return re.sub(r"column \d+", "a column", re.sub(r"\(byte \d+ of the line\)", "", text))[:160]
