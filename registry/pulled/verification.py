"""The files of a pulled model beside its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from registry.artifacts import folder_files
from registry.disk import sha256_of
from registry.pulled.pulled_model import PulledFile, PulledModel


class FileState(StrEnum):
    """The state of a file on the disk."""

    OK = "ok"
    CHANGED = "changed"
    MISSING = "missing"
    ADDED = "added"  # not part of what was pulled, though it would be loaded with it


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedFile:
    """A file, and what was found of it."""

    path: str
    state: FileState
    size_bytes: int | None
    sha256: str | None


def verify_pulled(folder: Path, model: PulledModel) -> Sequence[VerifiedFile]:
    """Return every file of the record and of the folder, hashed anew."""
    here = set(folder_files(folder)) if folder.is_dir() else set()
    return [_verified(folder, path, model.files.get(path), path in here) for path in sorted({*model.files, *here})]


def _verified(folder: Path, path: str, expected: PulledFile | None, is_here: bool) -> VerifiedFile:
    if not is_here:
        return VerifiedFile(path=path, state=FileState.MISSING, size_bytes=None, sha256=None)
    found = sha256_of(folder / path)
    state = FileState.ADDED if expected is None else FileState.OK if found == expected.sha256 else FileState.CHANGED
    return VerifiedFile(path=path, state=state, size_bytes=(folder / path).stat().st_size, sha256=found)
