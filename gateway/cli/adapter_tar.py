"""An adapter's folder as the tar that the gateway takes, made while it is sent."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from gateway.cli.errors import CommandFailed
from registry.publishing.adapter_files import NEEDED

CHUNK_BYTES: Final = 1024 * 1024


class AdapterTar:
    """The files of an adapter that serving needs, links followed. Raises `CommandFailed` where one cannot be read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
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
        return sum(tarfile.BLOCKSIZE + size + _filling(size) for size in self._sizes) + 2 * tarfile.BLOCKSIZE

    def chunks(self) -> Iterator[bytes]:
        """Yield the tar in pieces."""
        for name, size, file in zip(NEEDED, self._sizes, self._files, strict=True):
            header = tarfile.TarInfo(name)
            header.size = size
            yield header.tobuf(tarfile.GNU_FORMAT)
            left = size
            while left:
                part = file.read(min(left, CHUNK_BYTES))
                if not part:
                    raise CommandFailed(f"{self._folder / name} became shorter while it was sent; try again")
                left -= len(part)
                yield part
            yield b"\0" * _filling(size)
        yield b"\0" * (2 * tarfile.BLOCKSIZE)  # the end of a tar


def _filling(size: int) -> int:
    return -size % tarfile.BLOCKSIZE
