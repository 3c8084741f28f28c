"""From the name of a picture to its bytes: uploaded files, and paths below the folder of the settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Protocol

from registry.contracts.pictures.picture_bytes import MOST_BYTES, check_picture, decode_data_url
from registry.contracts.pictures.picture_part import PictureKind, PicturePart
from registry.errors import ArtifactCorrupt, NotFound, TrainingFileInvalid


class FindFile(Protocol):
    """Finds uploaded files."""

    def __call__(self, file_id: str) -> Path:
        """Return the path of the bytes; `NotFound` or `ArtifactCorrupt`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSources:
    """Reads pictures."""

    find_file: FindFile
    folder: Path | None
    """Paths are read below it; None where the settings name none."""

    def read(self, picture: PicturePart) -> bytes:
        """Return the picture's bytes, unchecked; `TrainingFileInvalid` names its line."""
        match picture.kind:
            case PictureKind.DATA:
                return decode_data_url(picture.name, picture.where)
            case PictureKind.FILE:
                return _read(self._uploaded(picture), picture)
            case PictureKind.PATH:
                return _read(self._below(picture), picture)

    def _uploaded(self, picture: PicturePart) -> Path:
        try:
            return self.find_file(picture.name)
        except (NotFound, ArtifactCorrupt) as exc:
            raise TrainingFileInvalid(f"{picture.where}: {exc}; upload the picture with the purpose vision") from exc

    def _below(self, picture: PicturePart) -> Path:
        if self.folder is None:
            raise TrainingFileInvalid(
                f"{picture.where}: {picture.name[:80]!r} is a path, and paths are read only below the folder that "
                "picture_folder of [registry] names; it names none. Give a data URL or the id of an uploaded file"
            )
        # Links are followed first: a link below the folder does not open the rest of the machine.
        try:
            found, folder = (self.folder / picture.name).resolve(), self.folder.resolve()
            is_there = found.is_file()  # opening a pipe would wait for ever
        except (OSError, ValueError, RuntimeError) as exc:  # too long, a NUL, links in a circle
            raise TrainingFileInvalid(f"{picture.where}: {picture.name[:80]!r} is not the path of a file") from exc
        if PurePosixPath(picture.name).is_absolute() or not found.is_relative_to(folder):
            raise TrainingFileInvalid(
                f"{picture.where}: {picture.name[:80]!r} does not lie below the folder of pictures"
            )
        if not is_there:
            raise TrainingFileInvalid(f"{picture.where}: there is no picture {picture.name[:80]!r}")
        return found


def check_named(pictures: Iterable[PicturePart], sources: PictureSources) -> str | None:
    """Check every picture that lies outside of the training file; return a digest of all names and bytes.

    None without such a picture. `TrainingFileInvalid` names the line of the first that is missing or broken.
    """
    whole = sha256()
    digests: dict[str, str] = {}
    for picture in pictures:
        if picture.name not in digests:
            data = sources.read(picture)
            check_picture(data, picture.where)
            digests[picture.name] = sha256(data).hexdigest()
    for name, digest in sorted(digests.items()):
        whole.update(f"{digest} {name}\n".encode())
    return whole.hexdigest() if digests else None


def _read(path: Path, picture: PicturePart) -> bytes:
    try:
        with path.open("rb") as opened:
            return opened.read(MOST_BYTES + 1)  # one more than is allowed shows that it is too large
    except OSError as exc:
        raise TrainingFileInvalid(f"{picture.where}: {picture.name[:80]!r} cannot be read: {exc.strerror}") from exc


def outside(pictures: Iterable[PicturePart]) -> Iterator[PicturePart]:
    """Yield the pictures whose bytes are not in the training file itself."""
    return (picture for picture in pictures if picture.kind is not PictureKind.DATA)
