"""The description of an artifact in a bucket: its files, and the objects that hold their bytes in parts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from registry.artifacts import folder_files, manifest_digest
from registry.disk import sha256_of
from registry.errors import ArtifactCorrupt

PART_BYTES: Final = 1 << 24
"""Bytes of an object; a transfer that was cut goes on with the next object."""
_ONLY_FILE: Final = "bytes"
"""Name of the one file of an artifact that is a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file of an artifact."""

    path: str
    """Relative, with `/`."""
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The bytes of a file from *start* to *end*, which are one object."""

    key: str
    path: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """All files of an artifact."""

    kind: str
    digest: str
    files: tuple[StoredFile, ...]
    part_bytes: int

    @property
    def key(self) -> str:
        """The key of the description, which is written when all parts are there."""
        return description_key(self.kind, self.digest)

    @property
    def size_bytes(self) -> int:
        """The bytes of all files."""
        return sum(file.size_bytes for file in self.files)

    def parts(self) -> Iterator[Part]:
        """Yield every part, in the order of the files."""
        for file in self.files:
            for number, start in enumerate(range(0, file.size_bytes, self.part_bytes)):
                yield Part(
                    key=f"{self.kind}/{self.digest}/{file.path}.{number:05d}",
                    path=file.path,
                    start=start,
                    end=min(start + self.part_bytes, file.size_bytes),
                )

    def place(self, path: str, artifact: Path) -> Path:
        """Return where the file *path* of this artifact is, if the artifact is at *artifact*."""
        return artifact / path if self.kind == "folders" else artifact

    def as_json(self) -> bytes:
        """Return the description."""
        return json.dumps({"files": [asdict(file) for file in self.files], "part_bytes": self.part_bytes}).encode()

    @classmethod
    def of(cls, staged: Path, part_bytes: int) -> Self:
        """Return the description of the artifact at *staged*, whose kind and digest its path ends with."""
        kind, digest = staged.parent.name, staged.name
        found = (
            [(name, staged / name) for name in folder_files(staged)] if kind == "folders" else [(_ONLY_FILE, staged)]
        )
        files = tuple(
            StoredFile(path=name, sha256=sha256_of(place), size_bytes=place.stat().st_size) for name, place in found
        )
        return cls(kind=kind, digest=digest, files=files, part_bytes=part_bytes)

    @classmethod
    def read(cls, kind: str, digest: str, text: bytes) -> Self:
        """Return the description in *text*. Raises `ArtifactCorrupt` unless it is that of this artifact."""
        try:
            row = json.loads(text)
            files = tuple(StoredFile(**file) for file in row["files"])
            made = cls(kind=kind, digest=digest, files=files, part_bytes=row["part_bytes"])
        except (ValueError, TypeError, KeyError) as exc:
            raise ArtifactCorrupt(f"the description of the artifact {digest} is not what Lorry writes: {exc}") from exc
        if _digest_of(kind, files) != digest or any(not _is_inside(file.path) for file in files):
            raise ArtifactCorrupt(f"the description of the artifact {digest} is that of another one")
        return made


def description_key(kind: str, digest: str) -> str:
    """Return the key of an artifact's description."""
    return f"{kind}/{digest}.json"


def damage_key(kind: str, digest: str) -> str:
    """Return the key of the mark that readers leave who found wrong bytes."""
    return f"{kind}/{digest}.damaged"


def parts_prefix(kind: str, digest: str) -> str:
    """Return what the keys of an artifact's parts begin with."""
    return f"{kind}/{digest}/"


def _digest_of(kind: str, files: tuple[StoredFile, ...]) -> str:
    if kind == "folders":
        return manifest_digest({file.path: file.sha256 for file in files})
    return files[0].sha256 if len(files) == 1 else ""


def _is_inside(path: str) -> bool:
    return bool(path) and not path.startswith("/") and ".." not in path.split("/")
