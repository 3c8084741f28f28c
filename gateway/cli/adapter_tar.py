"""An adapter's folder as the tar that the gateway takes, made while it is sent."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from gateway.cli.errors import CommandFailed
from registry.publishing.adapter_files import NEEDED

CHUNK_BYTES: Final = 1024 * 1024
MOST_NAMED: Final = 1000


class AdapterTar:
    """The files of an adapter that serving needs, links followed. Raises `CommandFailed` where one cannot be read."""

    def __init__(self, folder: Path, left_out: Iterable[str]) -> None:
        """Take the folder and the names in it whose files are not sent: of these the gateway gets empty entries.

        The job's events list them then, for whoever did not see the command's output.
        """
        self._folder = folder
        self._names = b"".join(_header(name, 0) for name in islice(left_out, MOST_NAMED))
        self._open = ExitStack()

    def __enter__(self) -> Self:
        """Open the files, whose sizes must not change from here on."""
        try:
            self._files = [self._open.enter_context((self._folder / name).open("rb")) for name in NEEDED]
        except OSError as exc:
            raise CommandFailed(f"{exc.filename}: {exc.strerror}") from exc
        self._sizes = [os.fstat(file.fileno()).st_size for file in self._files]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @property
    def size_bytes(self) -> int:
        """Number of bytes that `chunks` yields."""
        files = sum(tarfile.BLOCKSIZE + size + _filling(size) for size in self._sizes)
        return len(self._names) + files + 2 * tarfile.BLOCKSIZE

    def chunks(self) -> Iterator[bytes]:
        """Yield the tar in pieces."""
        yield self._names
        for name, size, file in zip(NEEDED, self._sizes, self._files, strict=True):
            yield _header(name, size)
            left = size
            while left:
                part = file.read(min(left, CHUNK_BYTES))
                if not part:
                    raise CommandFailed(f"{self._folder / name} became shorter while it was sent; try again")
                left -= len(part)
                yield part
            yield b"\0" * _filling(size)
        yield b"\0" * (2 * tarfile.BLOCKSIZE)  # the end of a tar


def _header(name: str, size: int) -> bytes:
    header = tarfile.TarInfo(name)
    header.size = size
    header.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
    return header.tobuf(tarfile.GNU_FORMAT)


def _filling(size: int) -> int:
    return -size % tarfile.BLOCKSIZE
