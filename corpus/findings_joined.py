"""The findings of all parts of a file as one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from corpus.chunk import ChunkFindings, Tallies, Tally

_ARRAYS: Final = ("lines", "turns", "characters", "tokens", "digests", "prompts", "signatures", "features")
_TALLIES: Final = ("faults", "refused", "answers", "personal")
_MOST_PHRASES: Final = 200_000
_MOST_ANSWERS: Final = 20_000


@dataclass(slots=True)
class Joined:
    """Findings that parts are added to; `whole` makes arrays of the parts' arrays."""

    parts: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in _ARRAYS})
    arrays: dict[str, Any] = field(default_factory=dict)
    faults: Tallies = field(default_factory=dict)
    refused: Tallies = field(default_factory=dict)
    answers: Tallies = field(default_factory=dict)
    personal: Tallies = field(default_factory=dict)
    languages: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    short_answers: Counter[str] = field(default_factory=Counter)
    phrases: Counter[str] = field(default_factory=Counter)
    tool_rows: int = 0
    pictures: int = 0
    plural: str = ""

    def add(self, found: ChunkFindings) -> None:
        """Add the findings of the next part."""
        for name in _ARRAYS:
            self.parts[name].append(getattr(found, name))
        for name in _TALLIES:
            _join(getattr(self, name), getattr(found, name))
        self.languages += found.languages
        self.labels += found.labels
        self.short_answers.update(found.short_answers)
        self.phrases.update(found.phrases)
        self.tool_rows += found.tool_rows
        self.pictures += found.pictures
        self.plural = self.plural or found.plural
        self.phrases = _common(self.phrases, _MOST_PHRASES)
        self.short_answers = _common(self.short_answers, _MOST_ANSWERS)

    def whole(self) -> Joined:
        """Return the findings with the arrays of all parts."""
        for name, parts in self.parts.items():
            if parts:
                self.arrays[name] = np.concatenate(parts)
            parts.clear()
        return self

    @property
    def rows(self) -> int:
        """Return the number of rows without a fault."""
        return len(self.arrays["lines"]) if self.arrays else 0


def _join(tallies: dict[str, Tally], more: dict[str, Tally]) -> None:
    for kind, tally in more.items():
        tallies.setdefault(kind, Tally()).join(tally)


def _common(counts: Counter[str], most: int) -> Counter[str]:
    """Return the more frequent half of too many counts."""
    return counts if len(counts) <= most else Counter(dict(counts.most_common(most // 2)))
