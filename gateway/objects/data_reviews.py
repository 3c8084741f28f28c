"""Reviews of training data: a person's judgement of the rows that were drawn."""

from __future__ import annotations

from typing import Literal

from gateway.objects.lists import ApiObject


class ReviewedRowObject(ApiObject):
    """A row that was read."""

    line: int
    verdict: Literal["good", "bad"]
    note: str = ""


class DataReviewObject(ApiObject):
    """A signed review."""

    id: str
    object: Literal["data.review"] = "data.review"
    sha256: str
    """Digest of the file's bytes."""
    reviewer: str
    """Name of the key that signed."""
    seed: int
    rows: int
    bad: int
    """Rows that should not be trained on, by the reviewer."""
    verdicts: list[ReviewedRowObject]
    signed_at: float
