"""The lists that environments are made from: exact pins in `deploy/envs/<kind>-<variant>.txt`.

A list is a requirements file as uv reads it, with the hashes of every version, which `make pins` writes. Lines that
begin with `#:` are for Lorry: `#: remove PATTERN` deletes files after the installation, `#: image NAME` stands for an
engine that is published as a container image only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engines.errors import EnvironmentFailed

REPOSITORY: Final = Path(__file__).parents[2]
"""The lists' folder: `deploy/` is not a package, so a `lorry` that builds environments runs from the repository."""
LISTS: Final = REPOSITORY / "deploy" / "envs"
VARIANTS: Final = ("cpu", "nvidia", "amd", "ascend")


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedList:
    """The contents of one list."""

    requirements: tuple[str, ...]
    """Exact and complete: the installer adds nothing that is not named here."""
    remove: tuple[str, ...]
    """Patterns, below site-packages, of files that are deleted after the installation."""
    image: str | None
    """Container image, where the engine is published in no other way; there are no requirements then."""


def has_list(kind: str, variant: str, lists: Path = LISTS) -> bool:
    """Whether there is a list for this variant; tools have none where they compute on the processor alone."""
    return (lists / f"{kind}-{variant}.txt").is_file()


def list_path(kind: str, variant: str, lists: Path = LISTS) -> Path:
    """Return the file of pins; `EnvironmentFailed` names the lists that exist."""
    path = lists / f"{kind}-{variant}.txt"
    if not path.is_file():
        there = sorted(file.stem for file in lists.glob("*.txt"))
        found = ", ".join(there) or "none, as this lorry does not run from its repository"
        raise EnvironmentFailed(f"there is no list {path}; there are: {found}")
    return path


def read_list(path: Path) -> PinnedList:
    """Read a list; `EnvironmentFailed` for a `#:` line of another kind."""
    requirements: list[str] = []
    marked: dict[str, list[str]] = {"remove": [], "image": []}
    for number, raw in enumerate(path.read_text().splitlines(), start=1):
        line = raw.strip().removesuffix("\\").rstrip()
        if line.startswith("#:"):
            word, _, rest = line[2:].strip().partition(" ")
            if word not in marked:
                raise EnvironmentFailed(f"{path}, line {number}: {word!r} is not one of {', '.join(marked)}")
            marked[word].append(rest)
        elif line and not line.startswith(("#", "--hash=")):
            requirements.append(line)
    return PinnedList(
        requirements=tuple(requirements),
        remove=tuple(marked["remove"]),
        image=marked["image"][0] if marked["image"] else None,
    )


def list_digest(path: Path, repository: Path = REPOSITORY) -> str:
    """Return the digest of the list and of the local packages in it: a changed stand-in outdates an environment."""
    digest = hashlib.sha256(path.read_bytes())
    for requirement in read_list(path).requirements:
        if requirement.startswith("./"):
            _digest_package(digest, repository / requirement)
    return digest.hexdigest()


def _digest_package(digest: hashlib._Hash, folder: Path) -> None:
    if folder.is_file():
        digest.update(folder.read_bytes())
    for file in sorted(folder.rglob("*")):
        # Sources only: an installation may leave `build/` and metadata in the folder of a local package.
        if file.suffix in {".py", ".toml", ".pth"} and "build" not in file.relative_to(folder).parts:
            digest.update(f"{file.relative_to(folder)}\n".encode())
            digest.update(file.read_bytes())
