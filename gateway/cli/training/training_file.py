"""A training file that a command names: by its path on this machine, or by the id under which it was uploaded."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.cli.client import Client, part
from gateway.cli.errors import CommandFailed
from gateway.cli.short_ids import whole_id
from gateway.objects.files import FileObject

_ID: Final = re.compile(r"file-[0-9a-f]{4,24}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedFile:
    """A training file on this machine."""

    path: Path
    name: str
    """Name for people: of an upload the one that it was uploaded with."""
    beside: Path
    """Path whose folder and name those of files about it follow from."""


@contextmanager
def named_file(given: Path) -> Iterator[NamedFile]:
    """Provide the file at the path *given*, or a copy of the uploaded one with this id; `CommandFailed`."""
    if given.exists() or not _ID.fullmatch(str(given)):
        yield NamedFile(path=given, name=given.name, beside=given)
        return
    with Client() as client, tempfile.TemporaryDirectory() as folder:
        file_id = part(whole_id(client, "file", str(given)))
        name = Path(client.get(f"/v1/files/{file_id}", FileObject).filename).name or file_id
        copy = Path(folder) / "rows.jsonl"
        try:
            with copy.open("wb") as written:
                written.writelines(client.download(f"/v1/files/{file_id}/content"))
        except OSError as exc:
            raise CommandFailed(f"{given}: cannot be kept for a look: {exc.strerror}") from exc
        yield NamedFile(path=copy, name=name, beside=Path(name))
