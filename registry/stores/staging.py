"""Folders in which publishers write, each under a lock that ends with its process.

lock                       held shared to install and commit, exclusively to remove an artifact or to clean up
staging/<id>/lock          held by the publisher as long as it lives
staging/<id>/installed     digests that may be installed without a committed row that refers to them
staging/<id>/folders/...   the folders that the publisher has written so far; files/ likewise
"""

from __future__ import annotations

import fcntl
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from registry.artifacts import CHUNK_BYTES, KINDS, folder_digest, folder_files
from registry.disk import FULL_ERRNOS, flush_to_disk
from registry.errors import RegistryError, StorageFull


class StagedBytes:
    """Bytes on their way into a store of either kind, which installs them by its own `committing`."""

    def __init__(self, path: Path) -> None:
        self.path = path
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

    def staged(self) -> list[Path]:
        """Return the paths of all copies, which end with their kind and digest."""
        return [path for kind in KINDS for path in (self.path / kind).iterdir()]

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


Made = TypeVar("Made", bound=StagedBytes)


class StagingArea:
    """The staging folders below a folder that the processes of one machine share."""

    def __init__(self, root: Path) -> None:
        """Make the folders. Raises `StorageFull` if the disk has no room for them."""
        self._root = root
        with full_disk_named(root):
            (root / "staging").mkdir(parents=True, exist_ok=True)

    @contextmanager
    def writing(self, make: Callable[[Path], Made], recover: Callable[[], object]) -> Iterator[Made]:
        """Yield what *make* makes of a folder of its own; *recover* removes what an unknown outcome left."""
        path = self._root / "staging" / uuid4().hex
        with full_disk_named(self._root):
            with self.locked(fcntl.LOCK_SH):
                # `removing_dead` takes this lock exclusively; a folder whose own lock is not held yet would look dead.
                path.mkdir()
                held = os.open(path / "lock", os.O_CREAT | os.O_RDWR)
                fcntl.flock(held, fcntl.LOCK_EX)
            staging = make(path)
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
                        recover()

    @contextmanager
    def locked(self, mode: int) -> Iterator[None]:
        """Hold the lock of all publishers and removers."""
        with locked(self._root / "lock", mode):
            yield

    def remove_dead(
        self,
        referenced: Callable[[], set[str]],
        take_out: Callable[[str, Path], None],
        before: float = math.inf,
    ) -> list[str]:
        """Remove what publishers left that died before the unix time *before*; return what no row refers to of it.

        That is what they had installed, which *take_out* removes.
        """
        # Without the lock, so that a process which starts with nothing to recover waits for no publisher.
        if not any((self._root / "staging").iterdir()):
            return []
        with self.locked(fcntl.LOCK_EX):
            dead = [
                path for path in (self._root / "staging").iterdir() if is_dead(path) and path.stat().st_mtime < before
            ]
            installed = {digest for path in dead for digest in _read_lines(path / "installed")}
            # No publisher is between its install and its commit now, when no row refers to its bytes yet.
            orphans = sorted(installed - referenced()) if installed else []
            for path in dead:
                for digest in orphans:
                    take_out(digest, path)
                # The note of digests goes last: after a death before this line the next call starts over.
                shutil.rmtree(path)
        return orphans


@contextmanager
def full_disk_named(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno in FULL_ERRNOS:
            raise StorageFull(f"no space left for artifacts in {root}: {exc}; nothing was changed") from exc
        raise


@contextmanager
def locked(path: Path, mode: int) -> Iterator[int]:
    """Hold the lock file *path* and yield its descriptor; the kernel releases the lock when the process dies."""
    lock = os.open(path, os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(lock, mode)
        yield lock
    finally:
        os.close(lock)


def is_dead(staging: Path) -> bool:
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
