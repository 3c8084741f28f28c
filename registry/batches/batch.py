"""A batch: requests in a file that gateways answer beside all others. Pure: no database, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from registry.batches.batch_state import BatchState

OUTPUT_PURPOSE: Final = "batch_output"
"""Purpose of the files that batches make, as OpenAI names it."""
WINDOW_S: Final = 86400
"""Length of the only completion window that there is, `24h`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFault:
    """An error of a batch as a whole, in OpenAI's shape."""

    code: str
    message: str
    line: int | None = None
    """Number of the line in the input file, counted from 1."""
    param: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchUsage:
    """Tokens of all answers of a batch."""

    input_tokens: int = 0
    cached_tokens: int = 0
    """How many of the input tokens came from a cache."""
    output_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: BatchUsage) -> BatchUsage:
        return BatchUsage(
            input_tokens=self.input_tokens + other.input_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchDraft:
    """A batch as its creator asks for it."""

    endpoint: str
    input_file: str
    metadata: Mapping[str, str] | None
    output_expires_after_s: int | None
    """How long the files with its results are kept after they were made."""
    owner: str
    tenant: str
    key_id: str
    """Id of the API key whose rights and limits its requests have; empty where no key existed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch as it is stored."""

    id: str
    state: BatchState
    endpoint: str
    input_file: str
    model: str | None
    """The model that every line names; None until the file was read."""
    metadata: Mapping[str, str] | None
    output_expires_after_s: int | None
    owner: str
    tenant: str
    key_id: str
    outcome: BatchState | None
    """The state that a finalizing batch is on its way to."""
    errors: Sequence[BatchFault]
    total: int
    completed: int
    failed: int
    usage: BatchUsage
    output_file: str | None
    error_file: str | None
    holder: str | None
    """The gateway that runs it, as long as that renews its lease."""
    attempt: int
    """How many times a gateway took the batch over."""
    beat: int
    """Grows with every renewal of the lease, which shows that the holder lives."""
    note: str
    """Why the batch does not go on at the moment; empty while it does."""
    created_at: float
    expires_at: float
    in_progress_at: float | None
    finalizing_at: float | None
    completed_at: float | None
    failed_at: float | None
    expired_at: float | None
    cancelling_at: float | None
    cancelled_at: float | None

    @property
    def unanswered(self) -> int:
        """How many lines have no result yet."""
        return self.total - self.completed - self.failed


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchHold:
    """A gateway's right to move one batch, valid while its attempt is the batch's latest."""

    batch_id: str
    attempt: int
    holder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """The result of one line."""

    line: int
    """Number of the line in the input file, counted from 1."""
    is_error: bool
    record: str
    """The line of the output or error file, JSON without its line end."""
    usage: BatchUsage = field(default_factory=BatchUsage)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFigures:
    """Batches in numbers."""

    states: Mapping[BatchState, int]
    """State -> how many batches of all that were ever created."""
    unanswered: int
    """Lines of open batches that have no result yet."""
