"""Notes of which copies were read whole and matched their digest, so that large ones are not read at each use."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

from registry.artifacts import is_intact

Signature = list[list[str | int]]
_SETTLED_S: Final = 2.0
"""How old the last change of a file is before its times show a further one: some file systems count whole seconds."""


class VerifiedCopies:
    """Knows which copies have not changed since their bytes were compared with their digest."""

    def __init__(self, root: Path, now: Callable[[], float]) -> None:
        """*root* has a note for each copy, which all processes of the machine share; *now* returns unix seconds."""
        self._root = root
        self._now = now

    def is_intact(self, path: Path) -> bool:
        """Return whether the copy at *path* exists and matches the digest in its name.

        Its bytes are read unless size, times and inode of every file are those of the last reading. The time of an
        inode's change is among them, which a writer cannot set back.
        """
        signature = _signature(path)
        if signature is None:
            return False
        note = self._root / f"{path.parent.name}-{path.name}"
        if _read(note) == signature:
            return True
        began = self._now()
        if not is_intact(path):
            note.unlink(missing_ok=True)
            return False
        changed_at = max(int(change_ns) for _, _, _, change_ns, *_ in signature) / 1e9
        # A change during the reading, or just before it, might leave the same times.
        if changed_at < began - _SETTLED_S and _signature(path) == signature:
            _write(note, signature)
        return True

    def forget(self, kind: str, digest: str) -> None:
        """Remove the note of a copy."""
        (self._root / f"{kind}-{digest}").unlink(missing_ok=True)


def _signature(path: Path) -> Signature | None:
    """Return what a change of any file of a copy changes; None if it is not there or changes right now."""
    try:
        files = (
            [path] if path.is_file() else [Path(parent, name) for parent, _, names in os.walk(path) for name in names]
        )
        stats = [(str(file.relative_to(path)), file.stat(follow_symlinks=False)) for file in sorted(files)]
    except OSError:
        return None
    if not stats:
        return None
    return [[name, of.st_size, of.st_mtime_ns, of.st_ctime_ns, of.st_ino, of.st_dev, of.st_mode] for name, of in stats]


def _read(note: Path) -> Signature | None:
    with suppress(OSError, ValueError):
        found: Signature = json.loads(note.read_bytes())
        return found
    return None


def _write(note: Path, signature: Signature) -> None:
    """Write the note whole; without room for it the copy is read again next time."""
    with suppress(OSError):
        part = note.with_name(f"{note.name}.{uuid4().hex}")
        part.write_text(json.dumps(signature))
        part.rename(note)
