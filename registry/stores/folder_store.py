"""Artifacts below one folder, published all or nothing and verified when read.

lock                       held shared to install and commit, exclusively to remove an artifact
staging/<id>/lock          held by the publisher as long as it lives
staging/<id>/installed     digests that may be installed without a committed row that refers to them
staging/<id>/folders/...   the folders that the publisher has written so far; files/ likewise
folders/<digest>/  files/<digest>
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from registry.artifacts import CHUNK_BYTES, KINDS, folder_digest, folder_files, is_intact
from registry.disk import FULL_ERRNOS, flush_to_disk
from registry.errors import ArtifactCorrupt, NotFound, RegistryError, StorageFull


class FolderStore:
    """The artifacts below one folder, which many processes may share."""

    def __init__(self, root: Path, referenced: Callable[[], set[str]]) -> None:
        """Make the folders of the store; *referenced* returns the digests that rows refer to now.

        Raises `StorageFull` if the disk has no room for the folders.
        """
        self.root = root.absolute()
        self._referenced = referenced
        with _full_disk_named(self.root):
            for name in ("staging", *KINDS):
                (self.root / name).mkdir(parents=True, exist_ok=True)

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
        path = self.root / "staging" / uuid4().hex
        with _full_disk_named(self.root):
            with _locked(self.root / "lock", fcntl.LOCK_SH):
                # `recover` takes this lock exclusively; a folder whose own lock is not held yet would look dead to it.
                path.mkdir()
                held = os.open(path / "lock", os.O_CREAT | os.O_RDWR)
                fcntl.flock(held, fcntl.LOCK_EX)
            staging = FolderStaging(self.root, path)
            try:
                yield staging
            except BaseException:
                staging.forsake()
                raise
            else:
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(held)
                if path.exists():  # whether the commit went through is unknown here: the rows decide what stays
                    with suppress(RegistryError, OSError):
                        self.recover()

    def recover(self) -> list[str]:
        """Remove what dead publishers left; return the digests that they had installed and no row refers to."""
        # Without the lock, so that a process which starts with nothing to recover waits for no publisher.
        if not any((self.root / "staging").iterdir()):
            return []
        with _locked(self.root / "lock", fcntl.LOCK_EX):
            dead = [path for path in (self.root / "staging").iterdir() if _is_dead(path)]
            installed = {digest for path in dead for digest in _read_lines(path / "installed")}
            # No publisher is between its install and its commit now, when no row refers to its bytes yet.
            orphans = sorted(installed - self._referenced()) if installed else []
            for path in dead:
                for digest in orphans:
                    self._take_out(digest, path)
                # The note of digests goes last: after a death before this line the next `recover` starts over.
                shutil.rmtree(path)
        return orphans

    @contextmanager
    def discarding(self, digest: str) -> Iterator[None]:
        """Remove the artifact after the block unless a row refers to it; `recover` does so if this process dies."""
        with self.publishing() as staging, _locked(self.root / "lock", fcntl.LOCK_EX):
            staging.note_installed([digest])
            yield
            if digest not in self._referenced():
                self._take_out(digest, staging.path)

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


class FolderStaging:
    """Bytes on their way into the store, invisible to readers until they are installed."""

    def __init__(self, root: Path, path: Path) -> None:
        self.path = path
        self._root = root
        for kind in KINDS:
            (path / kind).mkdir()

    def put_folder(self, folder: Path) -> str:
        """Copy *folder* and return its digest. Raises `AdapterRejected` if it holds more than files."""
        incoming = self.path / "incoming"
        for name in folder_files(folder):
            (incoming / name).parent.mkdir(parents=True, exist_ok=True)
            with (folder / name).open("rb") as source:
                _write(incoming / name, iter(lambda: source.read(CHUNK_BYTES), b""))
        incoming.mkdir(exist_ok=True)
        # `_write` flushed the bytes of each file; the names of the files are on disk only with their folders.
        for parent, _, _ in os.walk(incoming):
            flush_to_disk(Path(parent))
        digest = folder_digest(incoming)
        if self.folder(digest).exists():  # the same bytes twice in one publication
            shutil.rmtree(incoming)
        else:
            incoming.rename(self.folder(digest))
        return digest

    def put_chunks(self, chunks: Iterable[bytes]) -> tuple[str, int]:
        """Write *chunks* to a file and return its digest and size in bytes."""
        digest, size = _write(self.path / "incoming", chunks)
        (self.path / "incoming").rename(self.path / "files" / digest)
        return digest, size

    def folder(self, digest: str) -> Path:
        """Return the path of the copy that `put_folder` made."""
        return self.path / "folders" / digest

    def file(self, digest: str) -> Path:
        """Return the path of the bytes that `put_chunks` wrote."""
        return self.path / "files" / digest

    @contextmanager
    def committing(self) -> Iterator[Callable[[], None]]:
        """Yield the function that installs all bytes put so far; call it last in the transaction that refers to them.

        Enter this context before the transaction: a remover waits for the database while it holds the same lock, so
        the other order could deadlock.
        """
        with _locked(self._root / "lock", fcntl.LOCK_SH):
            staged = [path for kind in KINDS for path in (self.path / kind).iterdir()]
            # Hashed before the transaction begins, for which all other writers of SQLite wait.
            missing = [path for path in staged if not is_intact(self._root / path.parent.name / path.name)]
            yield lambda: self._install(missing)

    def note_installed(self, digests: Iterable[str]) -> None:
        """Note *digests* on disk, so that `recover` can check after our death whether rows refer to them."""
        _write(self.path / "installed", [f"{digest}\n".encode() for digest in digests])
        flush_to_disk(self.path)

    def forsake(self) -> None:
        """Remove the bytes, but keep the note of what may have been installed for `recover`."""
        for name in ("incoming", *KINDS):
            shutil.rmtree(self.path / name, ignore_errors=True)
            with suppress(OSError):  # an error is on its way already, and tells more; `recover` removes what is left
                (self.path / name).unlink(missing_ok=True)
        # With a note the folder stays for `recover`, which asks the rows whether the commit went through.
        if not (self.path / "installed").exists():
            shutil.rmtree(self.path, ignore_errors=True)

    def _install(self, staged: Sequence[Path]) -> None:
        # Noted before the first rename: bytes that are installed and never committed must be found by `recover`.
        self.note_installed(path.name for path in staged)
        with _locked(self._root / "install-lock", fcntl.LOCK_EX):  # two publishers may bring the same bytes
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


@contextmanager
def _full_disk_named(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno in FULL_ERRNOS:
            raise StorageFull(f"no space left for artifacts in {root}: {exc}; nothing was changed") from exc
        raise


@contextmanager
def _locked(path: Path, mode: int) -> Iterator[None]:
    """Hold the lock file *path*; the kernel releases it when the process dies."""
    lock = os.open(path, os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(lock, mode)
        yield
    finally:
        os.close(lock)


def _is_dead(staging: Path) -> bool:
    try:
        lock = os.open(staging / "lock", os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        # The kernel drops a publisher's lock at its death, so a lock that can be had belongs to nobody alive.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(lock)


def _read_lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def _write(path: Path, chunks: Iterable[bytes]) -> tuple[str, int]:
    digest, size = sha256(), 0
    with path.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        file.flush()
        # Read-only: the digest in the name stands for these bytes for ever.
        os.fchmod(file.fileno(), 0o444)
        os.fsync(file.fileno())
    return digest.hexdigest(), size
