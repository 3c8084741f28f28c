"""Checkpoints on disk; only complete ones of the same spec are continued from.

A checkpoint is a folder `attempt-<n>/checkpoint-<step>`. The folder is complete once it holds `seal.json`, which is
written last and has the sha256 of every other file.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from registry.disk import flush_to_disk, sha256_of

log = logging.getLogger(__name__)

SEAL: Final = "seal.json"
ATTEMPTS: Final = "attempt-*"
CHECKPOINTS: Final = "checkpoint-*"
TRAINED: Final = "trained"
"""Folder of an attempt with the adapter as PEFT saves it."""
INITIAL: Final = "initial"
"""Folder of an attempt with the adapter before training, where that is taken off the result."""
WEIGHTS: Final = (CHECKPOINTS, "served-*", "kept", TRAINED, INITIAL, "final")
"""The folders and files that an attempt leaves besides its logs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A complete checkpoint."""

    folder: Path
    step: int
    metrics: Mapping[str, Any]


class _Seal(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    identity: str
    step: int
    metrics: dict[str, Any]
    files: dict[str, str]
    """Relative path -> sha256."""


def seal_checkpoint(folder: Path, identity: str, step: int, metrics: Mapping[str, Any]) -> None:
    """Flush every file of *folder* to disk, then seal it in one rename as a checkpoint of the job with *identity*."""
    seal = _Seal(identity=identity, step=step, metrics=dict(metrics), files=_digests(folder))
    for name in seal.files:
        flush_to_disk(folder / name)
    # Data before the seal, the seal before its name: after a power cut a seal never stands for missing bytes.
    draft = folder / f".{SEAL}"
    draft.write_text(seal.model_dump_json())
    flush_to_disk(draft)
    draft.rename(folder / SEAL)
    flush_to_disk(folder)
    flush_to_disk(folder.parent)


def find_last_whole(job_folder: Path, identity: str) -> Checkpoint | None:
    """Return the complete checkpoint with the most steps, of any attempt, made with *identity*; None without one."""
    sealed = [
        (seal, path.parent) for path in job_folder.glob(f"{ATTEMPTS}/{CHECKPOINTS}/{SEAL}") if (seal := _read(path))
    ]
    # Most steps first: hashing takes long, and the first checkpoint that fits ends the search.
    for seal, folder in sorted(sealed, key=lambda entry: (entry[0].step, entry[1].parent.name), reverse=True):
        if seal.identity != identity:
            log.warning("checkpoint of another spec or base skipped", extra={"folder": str(folder)})
        elif _digests(folder) != seal.files:
            log.warning("damaged checkpoint skipped", extra={"folder": str(folder)})
        else:
            return Checkpoint(folder=folder, step=seal.step, metrics=seal.metrics)
    return None


def prune_checkpoints(attempt_folder: Path, keep: int) -> None:
    """Remove all checkpoints of an attempt but the *keep* with the most steps."""
    # Sorted as numbers: as text, 100 comes before 25.
    folders = sorted(attempt_folder.glob(CHECKPOINTS), key=lambda folder: int(folder.name.rpartition("-")[2]))
    for folder in folders[:-keep]:
        remove_checkpoint(folder)


def remove_checkpoints(job_folder: Path) -> None:
    """Remove every checkpoint and every trained adapter of a job that has ended; keep its logs."""
    for name in WEIGHTS:
        for folder in job_folder.glob(f"{ATTEMPTS}/{name}"):
            remove_checkpoint(folder)


def remove_checkpoint(folder: Path) -> None:
    """Remove *folder*, its seal first, so that a partly removed checkpoint is not complete."""
    (folder / SEAL).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _read(path: Path) -> _Seal | None:
    try:
        return _Seal.model_validate(json.loads(path.read_bytes()))
    except (OSError, ValueError, ValidationError) as exc:
        log.warning("unreadable seal skipped", extra={"path": str(path), "error": str(exc)})
        return None


def _digests(folder: Path) -> dict[str, str]:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    # Neither a seal nor its draft can be among the files that the seal lists.
    return {name: sha256_of(folder / name) for name in names if not name.endswith(SEAL)}
