"""The questions to a hub and their answers, alike for all hubs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from hubs.errors import HubRefused

COMMIT: Final = re.compile(r"[0-9a-f]{40}")
"""The id of a commit, whole."""


NO_SIZE: Final = -1


class Content(StrEnum):
    """The kinds of repositories that are fetched."""

    MODEL = "model"
    DATASET = "dataset"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A repository of a hub."""

    content: Content
    name: str
    """`OWNER/NAME`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file of a repository at one commit; of its two hashes the hub names one, or none."""

    path: str
    size_bytes: int
    """`NO_SIZE` where the hub names none."""
    sha256: str | None = None
    git_sha1: str | None = None
    """The id of the blob in Git: the SHA-1 of `blob <size>`, a zero byte, and the content."""

    @property
    def hub_hash(self) -> str | None:
        """The hash that the hub names, with its algorithm."""
        if self.sha256 is not None:
            return f"sha256:{self.sha256}"
        return None if self.git_sha1 is None else f"gitoid:{self.git_sha1}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A repository at one commit."""

    commit: str
    files: Sequence[RemoteFile]
    licence: str
    """As the hub names it, in small letters; empty where it names none."""


Received = Callable[[int], None]
"""Called with the number of bytes that came; below zero where the client begins a file anew. May raise `Stopped`."""


class Stopped(BaseException):
    """Ends a download from within its client, which retries after every `Exception`."""


class Hub(Protocol):
    """The questions to a hub's client. Every method raises `HubRefused` or `HubUnreachable`."""

    @property
    def title(self) -> str:
        """The hub's name as people write it."""
        ...

    def snapshot(self, repository: Repository, revision: str | None) -> Snapshot:
        """Return the repository at the commit that *revision* names, None being the default branch."""
        ...

    def fetch(self, repository: Repository, commit: str, file: RemoteFile, folder: Path, received: Received) -> None:
        """Write the file below *folder*; one that was begun there before goes on where it ended. Raises `OSError`."""
        ...

    def cached(self, repository: Repository, commit: str, path: str) -> Path:
        """Return where the file is in the cache of the client, fetched if it was not there."""
        ...

    def similar(self, name: str) -> Sequence[str]:
        """Return names of models that are like *name*; none where the hub does not answer."""
        ...


def check_canonical(asked: str, found: str) -> None:
    """Raise `HubRefused` where the hub has *asked* under another name: a model has one id, in one spelling."""
    if found and found != asked:
        raise HubRefused(f"{asked}: is called {found!r} on its hub; ask for that")
