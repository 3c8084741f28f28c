"""Copies of a bucket's artifacts on this machine: verified, at most a number of bytes, shared by all processes.

folders/<digest>/  files/<digest>   whole copies, whose bytes matched their digest when they came in
verified/<kind>-<digest>            sizes and times of a copy's files when its bytes were last compared with its digest
entries/<kind>-<digest>             the bytes of a copy, or of one on its way; its time is that of the last use
incoming/<kind>-<digest>/           what has arrived of a copy; a transfer that was cut goes on with it
incoming/<kind>-<digest>.lock       held by the process that fetches
cache.lock                          held to count, to make room, and to note figures

A process that holds a copy has its entry locked shared. The kernel ends that lock with the process.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final
from uuid import uuid4

from registry.artifacts import KINDS
from registry.errors import StorageFull
from registry.stores.cache_figures import CacheFigures, add_figures
from registry.stores.staging import full_disk_named, locked
from registry.stores.verified import VerifiedCopies

RECENT_S: Final = 60.0
"""How long a copy stays after it was handed out, held or not: its reader may be about to open it."""

Fetch = Callable[[Path], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    path: Path
    size_bytes: int
    used_at: float


class ArtifactCache:
    """Copies of artifacts below one folder."""

    def __init__(self, root: Path, limit_bytes: int, now: Callable[[], float]) -> None:
        """Make the folders; *now* returns unix seconds. Raises `StorageFull`."""
        self.root = root
        self.limit_bytes = limit_bytes
        self._now = now
        self._guard = Lock()
        self._held: dict[str, list[ExitStack]] = {}
        self._verified = VerifiedCopies(root / "verified", now)
        with full_disk_named(root):
            for name in (*KINDS, "entries", "incoming", "verified"):
                (root / name).mkdir(parents=True, exist_ok=True)

    def get(self, kind: str, digest: str, size_bytes: Callable[[], int], fetch: Fetch) -> Path:
        """Return the copy, verified; where there is none, *fetch* writes it into the path that it is given.

        Raises `StorageFull` without room for it, and what *size_bytes* and *fetch* raise.
        """
        if self._is_here(kind, digest):
            self.note(CacheFigures(hits=1))
            return self.root / kind / digest
        with full_disk_named(self.root), _lock_file(self.root / "incoming" / f"{kind}-{digest}.lock"):
            if self._is_here(kind, digest):  # another process fetched it meanwhile
                self.note(CacheFigures(hits=1))
                return self.root / kind / digest
            size = size_bytes()
            with self._reserved(kind, digest, size):
                incoming = self.root / "incoming" / f"{kind}-{digest}"
                incoming.mkdir(exist_ok=True)
                fetch(incoming / digest)
                self._enter(kind, digest, incoming)
            self.note(CacheFigures(misses=1, fetched_bytes=size))
        return self.root / kind / digest

    def adopt(self, staged: Path, size_bytes: int) -> None:
        """Move the verified copy at *staged*, whose path ends with its kind and digest, in if there is room."""
        kind, digest = staged.parent.name, staged.name
        with _lock_file(self.root / "incoming" / f"{kind}-{digest}.lock"):
            if (self.root / kind / digest).exists():
                return
            # Whoever reads it fetches it otherwise, and reports what is wrong.
            with suppress(StorageFull, OSError), self._reserved(kind, digest, size_bytes):
                staged.rename(self.root / kind / digest)

    def drop(self, digest: str) -> None:
        """Remove the copies of an artifact that is no more, except those that a process holds."""
        with locked(self.root / "cache.lock", fcntl.LOCK_EX):
            for kind in KINDS:
                self._remove(self.root / "entries" / f"{kind}-{digest}")

    def hold(self, digest: str) -> None:
        """Keep the copies of an artifact until as many calls of `release`, or the end of this process."""
        stack = ExitStack()
        for kind in KINDS:
            stack.enter_context(_lock_entry(self.root / "entries" / f"{kind}-{digest}", fcntl.LOCK_SH))
        with self._guard:
            self._held.setdefault(digest, []).append(stack)

    def release(self, digest: str) -> None:
        """Take a `hold` back; without one do nothing."""
        with self._guard:
            stacks = self._held.get(digest, [])
            stack = stacks.pop() if stacks else None
        if stack is not None:
            stack.close()

    def note(self, figures: CacheFigures) -> None:
        """Add to the figures of all processes on this machine."""
        with locked(self.root / "cache.lock", fcntl.LOCK_EX):
            add_figures(self.root, figures)

    def used_bytes(self) -> int:
        """Return the bytes of all copies, those on their way included."""
        return sum(entry.size_bytes for entry in self._entries())

    def _is_here(self, kind: str, digest: str) -> bool:
        entry, path = self.root / "entries" / f"{kind}-{digest}", self.root / kind / digest
        with _lock_entry(entry, fcntl.LOCK_SH) as is_known:
            if not is_known or not self._verified.is_intact(path):
                return False
            os.utime(entry, (self._now(), self._now()))
            return True

    def _enter(self, kind: str, digest: str, incoming: Path) -> None:
        place = self.root / kind / digest
        if place.exists():  # damaged, or `_is_here` would have found it; readers keep the files that they have open
            place.rename(incoming / f"damaged-{uuid4().hex}")
        (incoming / digest).rename(place)
        shutil.rmtree(incoming, ignore_errors=True)

    @contextmanager
    def _reserved(self, kind: str, digest: str, size_bytes: int) -> Iterator[None]:
        """Make room for a copy and count it; nobody evicts it during the block."""
        entry = self.root / "entries" / f"{kind}-{digest}"
        with ExitStack() as stack:
            with locked(self.root / "cache.lock", fcntl.LOCK_EX):
                self._make_room(size_bytes, entry)
                entry.write_text(str(size_bytes))
                os.utime(entry, (self._now(), self._now()))
                stack.enter_context(_lock_entry(entry, fcntl.LOCK_SH))
            yield
            os.utime(entry, (self._now(), self._now()))

    def _make_room(self, size_bytes: int, own: Path) -> None:
        if size_bytes > self.limit_bytes:
            raise StorageFull(
                f"an artifact of {size_bytes} bytes is larger than the whole cache of {self.limit_bytes} bytes in "
                f"{self.root}: raise [registry] artifact_cache_bytes"
            )
        entries = [entry for entry in self._entries() if entry.path != own]
        used = sum(entry.size_bytes for entry in entries)
        for entry in sorted(entries, key=lambda each: each.used_at):
            if used + size_bytes <= self.limit_bytes:
                return
            if entry.used_at <= self._now() - RECENT_S and self._remove(entry.path):
                used -= entry.size_bytes
                add_figures(self.root, CacheFigures(evictions=1, evicted_bytes=entry.size_bytes))
        if used + size_bytes > self.limit_bytes:
            raise StorageFull(
                f"the cache in {self.root} has no room for {size_bytes} bytes: {used} of its {self.limit_bytes} bytes "
                "are held by running processes or were read within the last minute; raise [registry] "
                "artifact_cache_bytes, or serve fewer models on this machine"
            )

    def _remove(self, entry: Path) -> bool:
        """Remove a copy with what has arrived of it, and return whether no process holds it."""
        kind, _, digest = entry.name.partition("-")
        try:
            with _lock_entry(entry, fcntl.LOCK_EX | fcntl.LOCK_NB) as is_known:
                if not is_known:
                    return False
                trash = self.root / "incoming" / f"removed-{uuid4().hex}"
                trash.mkdir()
                for path in (self.root / kind / digest, self.root / "incoming" / entry.name):
                    if path.exists():  # renamed first, so that no reader finds half a folder
                        path.rename(trash / f"{path.parent.name}-{path.name}")
                entry.unlink()
                self._verified.forget(kind, digest)
        except BlockingIOError:
            return False
        shutil.rmtree(trash, ignore_errors=True)
        return True

    def _entries(self) -> list[_Entry]:
        found = []
        for path in (self.root / "entries").iterdir():
            try:
                size, used_at = int(path.read_text() or 0), path.stat().st_mtime
            except FileNotFoundError:  # removed since the folder was read
                continue
            found.append(_Entry(path=path, size_bytes=size, used_at=used_at))
        return found


@contextmanager
def _lock_entry(path: Path, mode: int) -> Iterator[bool]:
    """Hold the lock of an entry; False if there is none. Raises `BlockingIOError` where *mode* does not wait."""
    while True:
        try:
            lock = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            yield False
            return
        try:
            fcntl.flock(lock, mode)
            if _is_file(lock, path):
                yield True
                return
        finally:
            os.close(lock)


@contextmanager
def _lock_file(path: Path) -> Iterator[None]:
    """Hold the lock file *path* exclusively, and remove it afterwards."""
    while True:
        with locked(path, fcntl.LOCK_EX) as lock:
            if _is_file(lock, path):
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return


def _is_file(descriptor: int, path: Path) -> bool:
    """Return whether *descriptor* is the file with the name *path* now, which may be removed before a lock is had."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
