"""The pictures of a job's files: whether its base model takes any, and whether those outside of the files are there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gateway.errors import InvalidRequest
from gateway.keys.access import shown
from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.pictures.picture_part import PictureKind
from registry.contracts.pictures.picture_sources import PictureSources, check_named, outside
from registry.contracts.pictures.vision_base import why_no_pictures
from registry.database import Registry
from registry.errors import Conflict, TrainingFileInvalid
from registry.types import Base


def check_unnamed(registry: Registry, file_id: str) -> None:
    """Raise `Conflict` while a line of a file that a job reads names the picture *file_id*; it names job and line.

    A job that is queued at this very moment is not seen. It fails at its start, and names the line.
    """
    for job in registry.jobs.unfinished():
        reads = job.spec.files()
        if not job.spec.names_pictures():
            continue
        paths = {field: registry.files.path(registry.files.held(each)) for field, each in reads.items()}
        for field, picture in job.spec.named_pictures(paths):
            if picture.kind is PictureKind.FILE and picture.name == file_id:
                raise Conflict(
                    f"file {file_id} is in use by {job.id}, whose {field} {reads[field]} names it: {picture.where}; "
                    "cancel or await it first"
                )


def check_pictures(
    registry: Registry, tenant: str | None, kind: type[FineTuneSpec], base: Base, files: Mapping[str, str]
) -> dict[str, str]:
    """Return a digest of the pictures outside of each of *files* (field -> id); none for files without such pictures.

    `InvalidRequest` names the line of a picture that *base* does not take, or that is missing or broken.
    """

    def find_file(file_id: str) -> Path:
        return registry.files.path(registry.files.get(file_id, tenant))

    sources = PictureSources(find_file=find_file, folder=registry.picture_folder)
    digests = {}
    for param, file_id in files.items():
        with registry.files.path(registry.files.get(file_id, tenant)).open("rb") as lines:
            pictures = [*kind.pictures_in(lines)]
        try:
            if pictures and (why := why_no_pictures(Path(base.path))):
                raise TrainingFileInvalid(f"{pictures[0].where} is a picture, and base model {base.name!r} {why}")
            digest = check_named(outside(pictures), sources)
        except TrainingFileInvalid as exc:
            raise InvalidRequest(f"{param} {shown(file_id)!r}: {exc}", param=param) from exc
        if digest is not None:
            digests[param] = digest
    return digests
