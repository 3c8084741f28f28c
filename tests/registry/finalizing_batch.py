"""A batch whose requests have their results, and whose files are to be written."""

from __future__ import annotations

from registry.batches.batch import BatchDraft, BatchHold, BatchResult
from registry.batches.batch_state import BatchState
from registry.database import Registry

DRAFT = BatchDraft(
    endpoint="/v1/chat/completions",
    input_file="file-1",
    metadata=None,
    output_expires_after_s=None,
    owner="ann",
    tenant="local",
    key_id="",
)


def finalizing(registry: Registry) -> BatchHold:
    """Return the lease of a batch with an answer and an error."""
    hold = registry.batches.claim(registry.batches.create(DRAFT, most_open=1), "gateway-1")
    assert hold is not None
    registry.batches.begin(hold, 2, "tiny")
    answer = BatchResult(line=1, is_error=False, record='{"line": 1}' * 100)
    error = BatchResult(line=2, is_error=True, record='{"line": 2}' * 100)
    registry.batches.record(hold, [answer, error])
    registry.batches.finalize(hold, BatchState.COMPLETED)
    return hold
