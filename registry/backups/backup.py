"""Backups of a registry with its artifacts, made while others use it, and their restoration in an empty registry.

A backup has the form of a `LORRY_HOME`: `registry.db`, always SQLite, and `artifacts/` with what its rows refer to.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from registry.artifacts import ArtifactStore
from registry.backups.rows import PASSING, check_empty, copy_rows
from registry.database import Registry, open_registry
from registry.errors import NotFound
from registry.schema import migrate
from registry.settings import RegistrySettings
from registry.stores.folder_store import FolderStore

DATABASE: Final = "registry.db"
ATTEMPTS: Final = 10
"""How often the rows are read again because an artifact was removed before it was copied."""
CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupReport:
    """Counts of what was copied."""

    rows: int
    artifacts: int
    """Artifacts that the rows refer to."""
    copied: int
    """The files among them that were not there before."""
    lost: tuple[str, ...]
    """Digests of artifacts that the source itself does not have any more."""


def back_up(registry: Registry, folder: Path) -> BackupReport:
    """Write a backup of *registry* into *folder*, which is made, or has an earlier backup that is brought up to date.

    The rows are those of one moment, and every artifact that they refer to is there. A killed backup leaves the earlier
    one as it was.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh, empty = folder / f"{DATABASE}.new", folder / f"{DATABASE}.empty"
    _remove_database(empty)
    migrate(f"sqlite:///{empty}")
    store = FolderStore(folder / "artifacts", set)
    copied, lost = 0, set[str]()
    for _ in range(ATTEMPTS):
        before, lost = lost, set()
        _remove_database(fresh)
        shutil.copy(empty, fresh)
        rows, wanted = _write_rows(registry, fresh, folder / "artifacts")
        for digest in sorted(wanted):
            if not store.kinds(digest):
                copied += 1 if _copy(registry.artifacts, store, digest, nullcontext) else 0
                lost |= set() if store.kinds(digest) else {digest}
        # Removed between the rows and their artifacts: newer rows do not refer to it, unless the source has lost it.
        if lost <= before:
            break
    os.replace(fresh, folder / DATABASE)
    _remove_database(empty)
    store.keep_only(wanted)
    return BackupReport(rows=rows, artifacts=len(wanted), copied=copied, lost=tuple(sorted(lost)))


def restore(folder: Path, settings: RegistrySettings) -> BackupReport:
    """Write the backup in *folder* into the registry of *settings*, which must be empty and may be of either kind.

    Raises `NotFound` if there is no backup, `Conflict` if the registry has rows, `SchemaTooNew` for the backup of a
    newer Lorry.
    """
    with _opened_copy(folder) as source:
        migrate(settings.url)
        target = open_registry(settings)
        try:
            with target.transactions.read() as tx:
                check_empty(tx)
            # Rows come last: a restoration that was killed leaves an empty registry, which can be restored into again.
            wanted = source.referenced_artifacts()
            copied = sum(
                _copy(source.artifacts, target.artifacts, digest, target.transactions.write)
                for digest in sorted(wanted)
            )
            lost = tuple(sorted(digest for digest in wanted if not target.artifacts.kinds(digest)))
            rows = copy_rows(source.transactions, target.transactions, leave_out=PASSING)
        finally:
            target.close()
    return BackupReport(rows=rows, artifacts=len(wanted), copied=copied, lost=lost)


def _write_rows(registry: Registry, path: Path, artifacts: Path) -> tuple[int, set[str]]:
    """Write the rows of one moment into the empty database *path*; return their number, and the digests in them."""
    made = open_registry(RegistrySettings(url=f"sqlite:///{path}", artifacts=artifacts))
    try:
        rows = copy_rows(registry.transactions, made.transactions, leave_out=PASSING)
        wanted = made.referenced_artifacts()
    finally:
        made.close()
    return rows, wanted


@contextmanager
def _opened_copy(folder: Path) -> Iterator[Registry]:
    """Open a copy of the backup's database at the present schema, so that the backup itself stays as it is."""
    if not (folder / DATABASE).is_file():
        raise NotFound(f"there is no backup in {folder}: it has no {DATABASE}")
    with tempfile.TemporaryDirectory(prefix="lorry-restore-") as place:
        copy = Path(place) / DATABASE
        for suffix in ("", "-wal"):  # a home that was copied as it was may have changes that are not in the file yet
            with suppress(FileNotFoundError):
                shutil.copy(f"{folder / DATABASE}{suffix}", f"{copy}{suffix}")
        settings = RegistrySettings(url=f"sqlite:///{copy}", artifacts=folder / "artifacts")
        migrate(settings.url)
        registry = open_registry(settings)
        try:
            yield registry
        finally:
            registry.close()


def _copy(
    source: ArtifactStore,
    target: ArtifactStore,
    digest: str,
    writing: Callable[[], AbstractContextManager[sa.Connection | None]],
) -> bool:
    """Copy the artifact in each form in which *source* has it, verified; return whether there was one."""
    kinds = source.kinds(digest)
    with suppress(NotFound, FileNotFoundError), target.publishing() as staging:
        for kind in kinds:
            if kind == "folders":
                staging.put_folder(source.folder(digest))
            else:
                with source.file(digest).open("rb") as file:
                    staging.put_chunks(iter(lambda: file.read(CHUNK_BYTES), b""))
        with staging.committing() as install, writing() as tx:
            install(tx)
    return bool(kinds)


def _remove_database(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
