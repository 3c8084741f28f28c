"""Files on disk: their digest, and that they survive a power cut."""

from __future__ import annotations

import os
from hashlib import file_digest
from pathlib import Path


def sha256_of(path: Path) -> str:
    """Return the sha256 of the file at *path* in hexadecimal; the file is read in pieces."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def flush_to_disk(path: Path) -> None:
    """Return once the bytes of a file, or the names in a folder, are on the disk itself."""
    # A folder cannot be opened for writing, and fsync does not need that.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
