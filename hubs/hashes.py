"""The hashes of a file, in one reading."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hubs.errors import FileAltered
from hubs.repository import RemoteFile

_PIECE: int = 1 << 22


def sha256_if_unaltered(path: Path, file: RemoteFile) -> str:
    """Return the sha256 of the file at *path*; `FileAltered` unless size and hash are those that the hub names."""
    size = path.stat().st_size
    sha256 = hashlib.sha256()
    git = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)  # Git's own; the sha256 is what is recorded
    with path.open("rb") as content:
        while piece := content.read(_PIECE):
            sha256.update(piece)
            if file.git_sha1 is not None:
                git.update(piece)
    found = sha256.hexdigest() if file.sha256 is not None else git.hexdigest()
    expected = file.sha256 or file.git_sha1
    if size != file.size_bytes:
        raise FileAltered(f"{file.path}: has {size:,} bytes, and the hub names {file.size_bytes:,}")
    if expected is not None and found != expected:
        raise FileAltered(f"{file.path}: has the hash {found[:16]}..., and the hub names {expected[:16]}...")
    return sha256.hexdigest()
