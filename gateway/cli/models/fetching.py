"""Fetch the files of a model from the gateway, verified by digest."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from gateway.cli.client import Client, part
from gateway.cli.errors import CommandFailed
from gateway.objects.weights.exports import ExportObject


class _Pieces:
    """An iterator of bytes as a file that is read once."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._pending = pieces, b""

    def read(self, size: int) -> bytes:
        """Return the next *size* bytes, fewer at the end."""
        parts = [self._pending]
        missing = size - len(self._pending)
        while missing > 0 and (piece := next(self._pieces, b"")):
            parts.append(piece)
            missing -= len(piece)
        whole = b"".join(parts)
        self._pending = whole[size:]
        return whole[:size]


def show_export(client: Client, name: str) -> ExportObject:
    """Return what the model *name* consists of."""
    return client.get(f"/admin/exports/{part(name)}", ExportObject)


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Write *member* below *folder*; `CommandFailed` for anything else than a file below it.

    Python before 3.11.4 has no filter of its own that refuses the same.
    """
    name = PurePosixPath(member.name)
    content = archive.extractfile(member) if member.isreg() else None
    if content is None or name.is_absolute() or ".." in name.parts:
        raise CommandFailed(f"the archive has {member.name!r}, which is not a file below its folder")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with content, path.open("wb") as file:
        shutil.copyfileobj(content, file)


def fetch_model(client: Client, model: ExportObject, folder: Path) -> None:
    """Write the files of *model* to the new *folder*; `CommandFailed` unless all are there with the right bytes."""
    from exports.errors import TargetRefused
    from exports.folder import check_files

    folder.mkdir()
    try:
        with _archive(client, model.name) as archive:
            for member in archive:
                _write(archive, member, folder)
    except tarfile.TarError as exc:
        raise CommandFailed(f"the archive of {model.name} ended too early; try again") from exc
    except OSError as exc:
        raise CommandFailed(f"{folder}: {exc.strerror or exc}") from exc
    try:
        check_files(folder, {file.path: file.sha256 for file in model.files})
    except TargetRefused as exc:
        raise CommandFailed(str(exc)) from exc


def fetch_config(client: Client, name: str, folder: Path) -> None:
    """Write the `config.json` of the model *name* alone to the new *folder*."""
    folder.mkdir()
    with _archive(client, name) as archive:
        for member in archive:
            if member.name == "config.json":
                _write(archive, member, folder)
                return
    raise CommandFailed(f"the folder of {name} has no config.json")


@contextmanager
def _archive(client: Client, name: str) -> Iterator[tarfile.TarFile]:
    pieces = _Pieces(client.download(f"/admin/archives/{part(name)}"))
    with tarfile.open(fileobj=pieces, mode="r|") as opened:  # type: ignore[call-overload]  # only `read` is called
        yield opened
