"""Environments of the engines and tools that cannot live in ours: where each is and how far its build came.

An environment is a virtual environment in `LORRY_HOME/envs/<kind>`. Its record is stored in its folder, so that a
half-built one is never taken for whole. `engines.environments.build` makes them. The trainer reads the record of a
tool's environment by code of its own (`trainer/quantizing/`), so its fields are a contract.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from engines.catalog import ENVIRONMENTS
from engines.errors import EnvironmentMissing

_STATE_FILE: Final = "lorry-environment.json"


class EnvironmentState(StrEnum):
    """How far an environment is."""

    ABSENT = "absent"  # nothing is there
    PARTIAL = "partial"  # begun and not finished; installing goes on from there
    READY = "ready"  # built from the present list, and its main package was imported
    OUTDATED = "outdated"  # whole, but the list has changed since


class EnvironmentRecord(BaseModel):
    """How an environment was made, as stored in its folder."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    kind: str
    variant: str
    digest: str
    """Digest of the list and of the local packages that it names."""
    is_installed: bool = False
    """Everything in the list was installed."""
    version: str | None = None
    """Version of the main package; set when it was imported, which is the last step."""
    size_bytes: int | None = None
    """Size of the whole environment when it was finished."""


def environment_folder(home: Path, kind: str) -> Path:
    """Return where the environment of *kind* is, or will be."""
    return home / "envs" / kind


def environment_python(home: Path, kind: str) -> Path:
    """Return where the interpreter of an environment is, whole or not."""
    return environment_folder(home, kind) / "bin" / "python"


def ready_interpreter(home: Path, kind: str) -> Path:
    """Return the Python that runs engines or tools of *kind*; `EnvironmentMissing` unless the environment is whole."""
    record = read_record(home, kind)
    command = f"`lorry envs install {kind}`"
    if record is None:
        raise EnvironmentMissing(f"there is no environment for {kind} below {home}; run {command}")
    if record.version is None:
        raise EnvironmentMissing(
            f"the environment for {kind} is not finished; run {command}, it goes on where it stopped"
        )
    return environment_python(home, kind)


def environment_state(record: EnvironmentRecord | None, digest: str | None) -> EnvironmentState:
    """Return how far the environment of *record* is, given the *digest* of the list that it would be made from now."""
    if record is None:
        return EnvironmentState.ABSENT
    if record.version is None:
        return EnvironmentState.PARTIAL
    return EnvironmentState.READY if record.digest == digest else EnvironmentState.OUTDATED


def ready_environments(home: Path) -> frozenset[tuple[str, str]]:
    """Return kind and variant of the engines' environments that are whole."""
    records = (read_record(home, kind) for kind in ENVIRONMENTS)
    return frozenset((record.kind, record.variant) for record in records if record and record.version is not None)


def read_record(home: Path, kind: str) -> EnvironmentRecord | None:
    """Return the record of an environment, None without a folder; an unreadable one counts as nothing done."""
    folder = environment_folder(home, kind)
    try:
        return EnvironmentRecord.model_validate_json((folder / _STATE_FILE).read_bytes())
    except FileNotFoundError:
        begun = folder.exists()
    except ValidationError:
        begun = True
    return EnvironmentRecord(kind=kind, variant="", digest="") if begun else None


def forget_record(home: Path, kind: str) -> None:
    """Let the environment, whatever of it is there, count as begun and not finished."""
    (environment_folder(home, kind) / _STATE_FILE).unlink(missing_ok=True)


def write_record(home: Path, record: EnvironmentRecord) -> None:
    """Store the record in the environment; a reader finds the whole of it, or the one before."""
    folder = environment_folder(home, record.kind)
    staging = folder / f".{_STATE_FILE}"
    staging.write_text(record.model_dump_json(indent=2))
    os.replace(staging, folder / _STATE_FILE)
