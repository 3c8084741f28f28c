"""`/v1/batches`: OpenAI's object of a batch."""

from __future__ import annotations

from typing import Literal

from gateway.objects.lists import ApiObject, ListedObject
from registry.batches.batch_state import BatchState


class BatchFaultObject(ApiObject):
    """A fault of the input file, or the reason why the batch failed."""

    code: str
    line: int | None = None
    """Number of the line in the input file, counted from 1."""
    message: str
    param: str | None = None


class BatchFaultList(ApiObject):
    """All faults of a batch, of a wrong file the first hundred."""

    object: Literal["list"] = "list"
    data: list[BatchFaultObject]


class BatchCounts(ApiObject):
    """How many requests a batch has, and how many have a result."""

    total: int
    completed: int
    failed: int


class InputTokensDetails(ApiObject):
    """Where input tokens came from."""

    cached_tokens: int


class OutputTokensDetails(ApiObject):
    """The use of the output tokens."""

    reasoning_tokens: int


class BatchUsageObject(ApiObject):
    """Tokens of all answers so far."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class BatchFacts(ApiObject):
    """Lorry's additions to OpenAI's batch object."""

    owner: str
    """Name of the key that created the batch."""
    gateway: str | None = None
    """The gateway process that runs the batch at the moment."""
    attempt: int
    """How many times a gateway took the batch over."""
    waits_for: str | None = None
    """Why the batch does not go on at the moment; null while it does."""


class BatchObject(ListedObject):
    """OpenAI's `batch`: requests of a file, answered beside all others."""

    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None = None
    errors: BatchFaultList | None = None
    input_file_id: str
    completion_window: Literal["24h"] = "24h"
    status: BatchState
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: BatchCounts
    usage: BatchUsageObject
    metadata: dict[str, str] | None = None
    lorry: BatchFacts
