"""The registry of this machine, for `lorry backup` and `lorry restore`; the commands import this file when they run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.cli.errors import CommandFailed
from gateway.settings import Settings, load_settings
from registry.backups.backup import BackupReport, back_up, restore
from registry.database import open_registry
from registry.disk import keep_files_private, make_private
from registry.errors import RegistryError


def back_up_home(folder: Path) -> BackupReport:
    """Back up the registry into *folder*; raise `CommandFailed` where that cannot be."""
    with _settings() as settings:
        _check_outside(folder, settings)
        database = settings.home / "registry.db"
        if settings.registry.url == f"sqlite:///{database}" and not database.exists():
            raise CommandFailed(f"LORRY_HOME {settings.home} has no registry yet: there is nothing to back up")
        registry = open_registry(settings.registry)
        try:
            return back_up(registry, folder.absolute())
        finally:
            registry.close()


def restore_home(folder: Path) -> BackupReport:
    """Write the backup in *folder* into the empty registry; raise `CommandFailed` where that cannot be."""
    with _settings() as settings:
        _check_outside(folder, settings)
        make_private(settings.home)
        return restore(folder.absolute(), settings.registry)


@contextmanager
def _settings() -> Iterator[Settings]:
    try:
        keep_files_private()
        yield load_settings()
    except RegistryError as exc:
        raise CommandFailed(str(exc)) from exc
    except OSError as exc:
        raise CommandFailed(f"{exc.filename}: {exc.strerror}") from exc


def _check_outside(folder: Path, settings: Settings) -> None:
    """A backup within the registry's own folders would be taken for a part of them."""
    artifacts = settings.registry.artifacts
    place, own = (
        folder.absolute(),
        (artifacts if isinstance(artifacts, Path) else settings.registry.artifact_cache).absolute(),
    )
    if place in (settings.home, own.parent) or place.is_relative_to(own):
        raise CommandFailed(f"FOLDER {folder}: this is where the registry itself is; name a folder of its own")
