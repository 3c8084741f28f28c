"""The report on a training file, as the registry stores it and the API answers with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

LISTED_LINES: Final = 20
"""Lines that are listed of a finding; the count has them all."""
EXCERPT: Final = 240
"""Characters of a row that a report shows."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Hits(_Part):
    """Rows that have something in common."""

    kind: str
    rows: int
    lines: list[int]
    """The first of them."""
    example: str = ""
    """The text that was found in the first one; of secrets and personal data only the form."""


class Counted(_Part):
    """How many rows have a value."""

    name: str
    rows: int


class Histogram(_Part):
    """Rows between edges; `counts[i]` lies between `edges[i]` and `edges[i + 1]`."""

    edges: list[float]
    counts: list[int]


class Spread(_Part):
    """How a length is spread over the rows."""

    least: float
    median: float
    mean: float
    p95: float
    most: float
    total: float
    histogram: Histogram


class Tokens(_Part):
    """Lengths in tokens."""

    counted_by: str | None
    """The base model whose tokenizer and chat template counted; None: four bytes are taken as a token."""
    context: int | None
    """Tokens that the base model can read."""
    max_length: int
    """Tokens that a row may have in a job."""
    spread: Spread
    longest: list[tuple[int, int]]
    """The longest rows: line and tokens."""
    over_max_length: Hits
    over_context: Hits
    refused: list[Hits]
    """Rows that the chat template refuses, by its reason."""


class Group(_Part):
    """Rows that are equal or nearly so."""

    rows: int
    lines: list[int]
    excerpt: str


class Repeats(_Part):
    """Rows that repeat an earlier row."""

    rows: int
    """Rows that could be left out, so that one of each group stays."""
    groups: list[Group]
    """The largest groups."""


class Leak(_Part):
    """Rows of the validation file that the training file has too."""

    kind: Literal["exact", "near", "prompt"]
    rows: int
    pairs: list[tuple[int, int]]
    """The first of them: line of the training file, line of the validation file."""


class Leaks(_Part):
    """Rows of the validation file that the training file has too."""

    validation_file: str
    validation_rows: int
    found: list[Leak]


class Balance(_Part):
    """How often each label is given."""

    of: Literal["label", "answer"]
    counts: list[Counted]
    most_share: float


class OddRow(_Part):
    """A row that is unlike the others."""

    line: int
    score: float
    why: list[str]
    excerpt: str


class Sample(_Part):
    """The rows that a person is asked to read."""

    seed: int
    lines: list[int]


class Finding(_Part):
    """A sentence about the file. `error`: a job refuses it; `warn`: look at it before training; `note`: to know."""

    level: Literal["error", "warn", "note"]
    about: str
    text: str


class FileFacts(_Part):
    """The file that was read."""

    name: str
    bytes: int
    sha256: str


class Report(_Part):
    """All that was found in a training file."""

    version: Literal[1] = 1
    file: FileFacts
    format: str
    """Kind of its lines: chats, preference pairs, ..."""
    rows: int
    """Rows without a fault."""
    faults: list[Hits]
    """Lines that an upload refuses, by reason."""
    tool_rows: int
    pictures: int
    turns: Spread
    characters: Spread
    tokens: Tokens
    languages: list[Counted]
    exact: Repeats
    near: Repeats
    leaks: Leaks | None = None
    answers: list[Hits]
    """Answers that are empty, refuse, break off or go round in circles."""
    phrases: list[Counted]
    """Sentences that many answers share."""
    personal: list[Hits]
    """Secrets and personal data."""
    balance: Balance | None = None
    odd: list[OddRow]
    sample: Sample
    findings: list[Finding] = Field(default_factory=list)
    seconds: float

    @property
    def level(self) -> str:
        """Return the worst level of the findings: `error`, `warn` or `note`."""
        levels = {finding.level for finding in self.findings}
        return next((level for level in ("error", "warn") if level in levels), "note")

    @property
    def warnings(self) -> Iterator[str]:
        """Yield the sentences that a person should read before training."""
        return (finding.text for finding in self.findings if finding.level != "note")
