"""A folder as a tar that is made while it is sent; the same files give the same bytes."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

CHUNK_BYTES: Final = 1024 * 1024


def tar_size(folder: Path, names: Sequence[str]) -> int:
    """Return the number of bytes that `tar_chunks` yields."""
    sizes = [(name, (folder / name).stat().st_size) for name in names]
    return sum(len(_header(name, size)) + size + _filling(size) for name, size in sizes) + 2 * tarfile.BLOCKSIZE


def tar_chunks(folder: Path, names: Sequence[str]) -> Iterator[bytes]:
    """Yield a tar of the files *names* in *folder*, in this order, piece by piece."""
    for name in names:
        with (folder / name).open("rb") as file:
            left = (folder / name).stat().st_size
            yield _header(name, left)
            filling = _filling(left)
            while left:
                part = file.read(min(left, CHUNK_BYTES))
                if not part:  # the reader finds that the archive ends too early
                    return
                left -= len(part)
                yield part
            yield b"\0" * filling
    yield b"\0" * (2 * tarfile.BLOCKSIZE)  # the end of a tar


def _header(name: str, size: int) -> bytes:
    header = tarfile.TarInfo(name)
    header.size = size
    return header.tobuf(tarfile.GNU_FORMAT)


def _filling(size: int) -> int:
    return -size % tarfile.BLOCKSIZE
