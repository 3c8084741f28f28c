"""Artifacts below one folder, published all or nothing and verified when read.

Beside what `registry.stores.staging` has: folders/<digest>/  files/<digest>
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from registry.artifacts import KINDS, Install, Referenced, is_intact
from registry.disk import flush_to_disk
from registry.errors import ArtifactCorrupt, NotFound
from registry.stores.staging import StagedBytes, StagingArea, full_disk_named, locked


class FolderStore:
    """The artifacts below one folder, which many processes may share."""

    def __init__(self, root: Path, referenced: Referenced) -> None:
        """Make the folders of the store; *referenced* returns the digests that rows refer to now.

        Raises `StorageFull` if the disk has no room for the folders.
        """
        self.root = root.absolute()
        self._referenced = referenced
        self._area = StagingArea(self.root)
        with full_disk_named(self.root):
            for kind in KINDS:
                (self.root / kind).mkdir(exist_ok=True)

    @property
    def cache(self) -> None:
        """Readers use the artifacts where they are."""
        return None

    def check(self) -> None:
        """Do nothing: the folders were made when the store was."""

    def folder(self, digest: str) -> Path:
        """Return the folder with this digest, verified. Raises `NotFound` or `ArtifactCorrupt`."""
        return self._verified(self.root / "folders" / digest)

    def file(self, digest: str) -> Path:
        """Return the file with this digest, verified. Raises `NotFound` or `ArtifactCorrupt`."""
        return self._verified(self.root / "files" / digest)

    @property
    def disk(self) -> Path:
        """The folder on whose disk the store writes."""
        return self.root

    def has_folder(self, digest: str) -> bool:
        """Return whether a folder with this digest exists, without verifying its bytes."""
        return (self.root / "folders" / digest).is_dir()

    def kinds(self, digest: str) -> list[str]:
        """Return in which forms the artifact exists."""
        return [kind for kind in KINDS if (self.root / kind / digest).exists()]

    def location(self, digest: str) -> str:
        """Return the path of the folder with this digest, which need not exist."""
        return str(self.root / "folders" / digest)

    def keep_only(self, digests: set[str]) -> None:
        """Remove every other artifact, while nothing else uses the store."""
        for kind in KINDS:
            for path in (self.root / kind).iterdir():
                if path.name not in digests:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    @contextmanager
    def publishing(self) -> Iterator[FolderStaging]:
        """Yield a place to write bytes, which is removed afterwards with all that was not installed and committed."""
        with self._area.writing(lambda path: FolderStaging(self.root, self._area, path), self.recover) as staging:
            yield staging

    def recover(self) -> list[str]:
        """Remove what dead publishers left; return the digests that they had installed and no row refers to."""
        return self._area.remove_dead(self._referenced, self._take_out)

    @contextmanager
    def discarding(self, digest: str) -> Iterator[None]:
        """Remove the artifact after the block unless a row refers to it; `recover` does so if this process dies."""
        with self.publishing() as staging, self._area.locked(fcntl.LOCK_EX):
            staging.note_installed([digest])
            yield
            if digest not in self._referenced():
                self._take_out(digest, staging.path)

    def hold(self, digest: str) -> None:
        """Do nothing: whatever is referred to stays."""

    def release(self, digest: str) -> None:
        """Do nothing, as `hold`."""

    def _verified(self, path: Path) -> Path:
        if not path.exists():
            raise NotFound(f"there is no artifact {path}")
        if not is_intact(path):
            raise ArtifactCorrupt(f"the artifact {path} no longer matches its digest; publish or upload it again")
        return path

    def _take_out(self, digest: str, trash: Path) -> None:
        for kind in KINDS:  # renamed first, so that no reader finds half a folder
            path = self.root / kind / digest
            if path.exists():
                path.rename(trash / f"{kind}-{digest}")


class FolderStaging(StagedBytes):
    """Bytes on their way into a folder, where they are installed by renaming."""

    def __init__(self, root: Path, area: StagingArea, path: Path) -> None:
        super().__init__(path)
        self._root = root
        self._area = area

    @contextmanager
    def committing(self) -> Iterator[Install]:
        """Yield the function that installs all bytes put so far; call it last in the transaction that refers to them.

        Enter this context before the transaction: a remover waits for the database while it holds the same lock, so
        the other order could deadlock.
        """
        with self._area.locked(fcntl.LOCK_SH):
            # Hashed before the transaction begins, for which all other writers of SQLite wait.
            missing = [path for path in self.staged() if not is_intact(self._root / path.parent.name / path.name)]
            yield lambda _tx: self._install(missing)

    def _install(self, staged: Sequence[Path]) -> None:
        # Noted before the first rename: bytes that are installed and never committed must be found by `recover`.
        self.note_installed(path.name for path in staged)
        with locked(self._root / "install-lock", fcntl.LOCK_EX):  # two publishers may bring the same bytes
            for path in staged:
                final = self._root / path.parent.name / path.name
                if is_intact(final):
                    continue
                # Damaged bytes move away first, as a folder cannot be renamed onto one with files.
                if final.exists():
                    final.rename(self.path / f"corrupt-{path.name}")
                path.rename(final)
                # The commit follows: a row must not reach the disk before the name that it refers to.
                flush_to_disk(final.parent)
