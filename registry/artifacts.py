"""Artifacts: files and folders known by their sha256, and what every store of them does."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from registry.disk import sha256_of
from registry.errors import AdapterRejected

if TYPE_CHECKING:
    import sqlalchemy as sa

CHUNK_BYTES: Final = 1 << 20
KINDS: Final = ("folders", "files")


Install = Callable[["sa.Connection | None"], None]
"""Installs bytes in a transaction; None only for a store beside which there are no rows, as that of a backup."""
Referenced = Callable[[], set[str]]
"""Returns the digests that rows refer to now."""


class Staging(Protocol):
    """Bytes on their way into a store, invisible to readers until they are installed."""

    path: Path
    """A folder of this publication alone."""

    def put_folder(self, folder: Path) -> str:
        """Copy *folder* and return its digest. Raises `AdapterRejected` if it holds more than files."""
        ...

    def put_chunks(self, chunks: Iterable[bytes]) -> tuple[str, int]:
        """Write *chunks* to a file and return its digest and size in bytes."""
        ...

    def folder(self, digest: str) -> Path:
        """Return the path of the copy that `put_folder` made."""
        ...

    def file(self, digest: str) -> Path:
        """Return the path of the bytes that `put_chunks` wrote."""
        ...

    def committing(self) -> AbstractContextManager[Install]:
        """Yield the function that installs all bytes put so far; call it last in the transaction that refers to them.

        The function is given that transaction.

        Enter this context before the transaction: a remover waits for the database while it holds the same lock, so
        the other order could deadlock.
        """
        ...


class Copies(Protocol):
    """This machine's copies of artifacts that are elsewhere."""

    root: Path
    limit_bytes: int
    """How many bytes they may take."""

    def used_bytes(self) -> int:
        """Return the bytes of all copies, those on their way included."""
        ...


class ArtifactStore(Protocol):
    """The artifacts of a registry. Every method blocks and may be called from many threads and processes."""

    @property
    def disk(self) -> Path:
        """The folder on whose disk the store writes."""
        ...

    @property
    def cache(self) -> Copies | None:
        """This machine's copies; None where readers use the artifacts where they are."""
        ...

    def check(self) -> None:
        """Return if the place can be written and read; raise `ArtifactsUnavailable` with what to change otherwise."""
        ...

    def folder(self, digest: str) -> Path:
        """Return the folder with this digest on this machine, verified; a bucket's is fetched where it is not here.

        Raises `NotFound`, `ArtifactCorrupt`, and for a bucket `ArtifactsUnavailable` and `StorageFull`.
        """
        ...

    def file(self, digest: str) -> Path:
        """Return the file with this digest; all else is as of `folder`."""
        ...

    def hold(self, digest: str) -> None:
        """Keep the artifact on this machine as long as this process lives, or until as many calls of `release`.

        Without a hold it stays for a minute after `folder` or `file` returned it.
        """
        ...

    def release(self, digest: str) -> None:
        """Take a `hold` back; without one do nothing."""
        ...

    def has_folder(self, digest: str) -> bool:
        """Return whether a folder with this digest exists, without verifying its bytes."""
        ...

    def kinds(self, digest: str) -> list[str]:
        """Return in which forms, of `KINDS`, the artifact exists; empty where it does not."""
        ...

    def location(self, digest: str) -> str:
        """Return where the folder with this digest is, as the registry records it; it need not exist."""
        ...

    def publishing(self) -> AbstractContextManager[Staging]:
        """Yield a place to write bytes, which is removed afterwards with all that was not installed and committed."""
        ...

    def discarding(self, digest: str) -> AbstractContextManager[None]:
        """Remove the artifact after the block unless a row refers to it; `recover` does so if this process dies."""
        ...

    def recover(self) -> list[str]:
        """Remove what dead publishers left; return the digests that they had installed and no row refers to."""
        ...


@contextmanager
def held(store: ArtifactStore, digests: Collection[str]) -> Iterator[None]:
    """Keep artifacts on this machine during the block."""
    for digest in digests:
        store.hold(digest)
    try:
        yield
    finally:
        for digest in digests:
            store.release(digest)


def folder_digest(path: Path) -> str:
    """Return the sha256 of the folder's manifest, sorted lines `<sha256>  <relative path>` without hidden files."""
    return manifest_digest({name: sha256_of(path / name) for name in folder_files(path)})


def manifest_digest(digests: Mapping[str, str]) -> str:
    """Return the digest of a folder whose files have these sha256, by their relative paths."""
    lines = sorted(f"{digest}  {name}\n" for name, digest in digests.items())
    return sha256("".join(lines).encode()).hexdigest()


def folder_files(path: Path) -> list[str]:
    """Return the relative paths of the folder's files, sorted, without hidden ones. Raises `AdapterRejected`."""
    if not path.is_dir():
        raise AdapterRejected(f"there is no folder {path}")
    names = []
    for parent, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        linked = [name for name in folders if Path(parent, name).is_symlink()]
        for name in [*linked, *files]:
            inside = Path(parent, name)
            if not inside.is_file() or not name.isprintable():
                raise AdapterRejected(f"{str(inside)!r} is not a regular file with a printable name")
        names += [Path(parent, name).relative_to(path).as_posix() for name in files if not name.startswith(".")]
    return sorted(names)


def is_intact(path: Path) -> bool:
    """Return whether the artifact at *path* exists and matches the digest in its name."""
    if path.is_dir():
        return folder_digest(path) == path.name
    return path.is_file() and sha256_of(path) == path.name
