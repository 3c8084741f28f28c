"""Files of a repository into a folder: several at a time, each continued where it ended, each checked by its hash."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hubs.errors import DiskRefused, FileAltered, HubError, HubUnreachable
from hubs.hashes import sha256_if_unaltered
from hubs.repository import Hub, RemoteFile, Repository, Stopped

_LOOK_EVERY_S: Final = 0.25
_CLIENTS: Final = ("huggingface_hub", "modelscope_hub")
"""Loggers of the clients, which warn when a connection was lost and is made again."""
_KEPT_FREE: Final = 64 << 20
"""Bytes of the disk that stay free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The files to fetch, their hub, and how many are fetched at a time."""

    hub: Hub
    repository: Repository
    commit: str
    files: Sequence[RemoteFile]
    folder: Path
    at_a_time: int


@dataclass(slots=True)
class Progress:
    """How far a fetch is; written by its threads, read by whoever shows it."""

    total_bytes: int
    kept_bytes: int
    """Bytes that were there when the fetch began."""
    received_bytes: int = 0
    under_way: dict[str, int] = field(default_factory=dict)
    """Path of each file that comes now -> its bytes that are here."""
    threads: dict[int, str] = field(default_factory=dict)
    """Id of a thread -> path of the file that it fetches."""
    notes: list[str] = field(default_factory=list)
    """Sentences that are to be shown once."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)

    def count(self, path: str, received: int) -> None:
        """Add bytes of a file; raises `Stopped` once the fetch has ended."""
        if self.ended.is_set():
            raise Stopped
        with self.lock:
            self.received_bytes += received
            self.under_way[path] = self.under_way.get(path, 0) + received

    def say(self, sentence: str) -> None:
        """Add a sentence."""
        with self.lock:
            self.notes.append(sentence)


Show = Callable[[Progress], None]


def fetch_files(work: Work, show: Show) -> Mapping[str, str]:
    """Return the sha256 of each file by its path, all of them in the folder and unaltered.

    Raises `DiskRefused` before it begins, or when the disk is full; `HubError`. Received bytes stay for the next one.
    """
    kept = {file.path: _kept_bytes(work.folder / file.path) for file in work.files}
    progress = Progress(total_bytes=sum(file.size_bytes for file in work.files), kept_bytes=sum(kept.values()))
    _check_room(work.folder, progress)
    if progress.kept_bytes:
        begun = sum(size > 0 for size in kept.values())
        progress.say(f"{progress.kept_bytes:,} bytes of {begun} files are here from an earlier pull")
    with _warnings_counted(progress), ThreadPoolExecutor(work.at_a_time, thread_name_prefix="pull") as pool:
        futures = {pool.submit(_fetched, work, file, progress): file for file in _large_first(work.files)}
        try:
            _wait_and_show(list(futures), progress, show)
        finally:
            progress.ended.set()
            pool.shutdown(cancel_futures=True)
        return {file.path: future.result() for future, file in futures.items()}


def _wait_and_show(futures: Sequence[Future[str]], progress: Progress, show: Show) -> None:
    """Return when all are done; raise the error of the first that failed."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=_LOOK_EVERY_S, return_when=FIRST_EXCEPTION)
        show(progress)
        for future in done:
            future.result()


def _fetched(work: Work, file: RemoteFile, progress: Progress) -> str:
    """Return the sha256 of the file, which is there and unaltered."""
    target = work.folder / file.path
    progress.threads[threading.get_ident()] = file.path
    try:
        if not target.is_file():
            progress.under_way[file.path] = _kept_bytes(target)
            work.hub.fetch(work.repository, work.commit, file, work.folder, lambda n: progress.count(file.path, n))
        return sha256_if_unaltered(target, file)
    except FileAltered as exc:
        target.unlink(missing_ok=True)
        raise FileAltered(f"{exc}; it is removed, pull again") from exc
    except HubError:
        raise
    except OSError as exc:
        if exc.errno is None:  # a client's own, for an answer that ended early without an error of the connection
            raise HubUnreachable(f"{file.path}: {exc}") from exc
        raise DiskRefused(_disk_message(work.folder, exc)) from exc
    finally:
        progress.under_way.pop(file.path, None)


def _disk_message(folder: Path, exc: OSError) -> str:
    return (
        f"{folder}: {exc.strerror or exc}. What was received is kept there: make room, and the same command goes on "
        "where it ended"
    )


def _check_room(folder: Path, progress: Progress) -> None:
    missing = progress.total_bytes - progress.kept_bytes
    free = shutil.disk_usage(folder).free - _KEPT_FREE
    if missing > free:
        raise DiskRefused(
            f"{folder}: the files need {missing / 1e9:.2f} GB and the disk has {max(free, 0) / 1e9:.2f} GB free; make "
            "room, or name a folder on another disk in settings [models] folder"
        )


def _kept_bytes(target: Path) -> int:
    """Return how many bytes of the file are here, whole or as the clients keep what they have of it."""
    names = (target.name, target.name + ".part", target.name + ".incomplete")
    return next((path.stat().st_size for name in names if (path := target.with_name(name)).is_file()), 0)


def _large_first(files: Sequence[RemoteFile]) -> list[RemoteFile]:
    """Return the order of fetching; begun last, the largest file would come alone at the end."""
    return sorted(files, key=lambda file: -file.size_bytes)


class _Reconnects(logging.Handler):
    """Turns a client's warnings, which may hold signed addresses, into a sentence of the file and its bytes."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.WARNING)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        """Note that the connection was lost."""
        path = self._progress.threads.get(threading.get_ident())
        if path is not None:
            here = self._progress.under_way.get(path, 0)
            self._progress.say(f"{path}: the connection was lost at byte {here:,}; trying again from there")


@contextmanager
def _warnings_counted(progress: Progress) -> Iterator[None]:
    """While the block runs, the clients' warnings become notes and are printed nowhere."""
    handler = _Reconnects(progress)
    loggers = [logging.getLogger(name) for name in _CLIENTS]
    before = [(each.handlers[:], each.propagate) for each in loggers]
    for each in loggers:
        each.handlers, each.propagate = [handler], False
    try:
        yield
    finally:
        for each, (handlers, propagate) in zip(loggers, before, strict=True):
            each.handlers, each.propagate = handlers, propagate
