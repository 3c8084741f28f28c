"""Files on disk: their digest, that they survive a power cut, who may read them, and signs of life."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from hashlib import file_digest
from pathlib import Path
from typing import Final

FULL_ERRNOS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of the operating system for a full disk, quota or file size."""
TRAINER: Final = "trainer"
SUFFIX: Final = ".alive"
_OTHERS: Final = 0o077
"""The rights of other users to a file."""


def sha256_of(path: Path) -> str:
    """Return the sha256 of the file at *path* in hexadecimal; the file is read in pieces."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def flush_to_disk(path: Path) -> None:
    """Return once the bytes of a file, or the names in a folder, are on the disk itself."""
    # A folder cannot be opened for writing, and fsync does not need that.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Liveness:
    """The file `run/PART.alive` below `LORRY_HOME`, which a process without a port touches while its work goes on."""

    def __init__(self, home: Path, part: str) -> None:
        self._file = home / "run" / f"{part}{SUFFIX}"

    def beat(self) -> None:
        """Note that the work goes on. A disk that takes no file is no reason to end it."""
        with suppress(OSError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file.touch()

    def forget(self) -> None:
        """Remove the beat that an earlier process left, by which this one would look at work before it is."""
        with suppress(OSError):
            self._file.unlink(missing_ok=True)

    def last_beat(self) -> float:
        """Return the time of the last beat in unix seconds, 0 before the first."""
        try:
            return self._file.stat().st_mtime
        except OSError:
            return 0.0


def all_beats(home: Path) -> dict[str, float]:
    """Return the last beat of each part that ever ran in *home*, by its name."""
    parts = sorted(file.name.removesuffix(SUFFIX) for file in (home / "run").glob(f"*{SUFFIX}"))
    return {part: Liveness(home, part).last_beat() for part in parts}


def keep_files_private() -> None:
    """Give nobody else access to the files that this process and its children make from now on."""
    os.umask(_OTHERS)


def make_private(folder: Path) -> bool:
    """Make *folder* if it is not there and take other users' access away. Raises `OSError`.

    False where that cannot be, because the folder belongs to another user, as that of a mounted volume may.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & _OTHERS == 0:
        return True
    try:
        folder.chmod(0o700)
    except PermissionError:
        return False
    return True
