"""An upload in parts: what was announced, and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

LASTS_S: Final = 3600.0
"""How long an upload may take until it is completed."""
PART_BYTES: Final = 64 * 1024 * 1024
"""Largest part, which is the size that OpenAI's clients cut a file into."""
MOST_PARTS: Final = 10_000
"""Parts of an upload, so that bytes sent one by one do not fill the disk with their files."""


class UploadState(StrEnum):
    """Whether an upload still takes parts."""

    PENDING = "pending"  # takes parts
    COMPLETED = "completed"  # its parts became a file
    CANCELLED = "cancelled"
    EXPIRED = "expired"  # was not completed within its time


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadDraft:
    """A file that is announced, to be sent in parts."""

    filename: str
    purpose: str
    mime_type: str
    size_bytes: int
    file_expires_after_s: int | None
    """How long the file is kept; None keeps it until it is deleted."""
    owner: str
    tenant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file on its way."""

    id: str
    filename: str
    purpose: str
    mime_type: str
    size_bytes: int
    """Bytes that the file is to have."""
    file_expires_after_s: int | None
    state: UploadState
    file_id: str | None
    """Id of the file that a completed upload became."""
    owner: str
    tenant: str
    created_at: float
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadPart:
    """Some bytes of an upload."""

    id: str
    upload_id: str
    size_bytes: int
    digest: str
    created_at: float
