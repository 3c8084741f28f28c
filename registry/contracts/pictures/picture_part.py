"""Parts of a message that name a picture, as OpenAI's clients write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from registry.contracts.training_json import check_text, json_kind, shown
from registry.errors import TrainingFileInvalid

MOST_PICTURES: Final = 10
"""OpenAI's rule: pictures of one example."""
PICTURE_TYPES: Final = ("image_url", "image_file")
DETAILS: Final = ("auto", "low", "high")
SHAPES: Final = (
    '{"type": "image_url", "image_url": {"url": ...}} or {"type": "image_file", "image_file": {"file_id": ...}}'
)
_NOT_SUPPORTED: Final[Mapping[str, str]] = {
    "image": "write the picture as " + SHAPES,
    "input_image": "that is a part of the responses API; write the picture as " + SHAPES,
    "input_text": 'that is a part of the responses API; write {"type": "text", "text": ...}',
    "input_audio": "sounds cannot be learnt",
    "video_url": "videos cannot be learnt",
}
_FILE_ID: Final = re.compile(r"file-[A-Za-z0-9]{1,64}")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


class PictureKind(StrEnum):
    """The place that a picture's bytes are in."""

    DATA = "data"  # in the line itself, as a data URL
    FILE = "file"  # an uploaded file
    PATH = "path"  # a file below the folder of the settings


@dataclass(frozen=True, slots=True, kw_only=True)
class PicturePart:
    """A picture of a message."""

    where: str
    """Line and part, for messages."""
    kind: PictureKind
    name: str
    """The data URL, the file id, or the path below the folder."""
    detail: str = "auto"


def hint_for(kind: object) -> str:
    """Return what to write in place of a part of the unsupported type *kind*; empty if nothing is known of it."""
    return _NOT_SUPPORTED.get(kind, "") if isinstance(kind, str) else ""


def parse_picture(part: Mapping[str, Any], where: str) -> PicturePart:
    """Return the picture of a part whose type is one of `PICTURE_TYPES`; `TrainingFileInvalid` names the field."""
    kind = str(part["type"])
    if unknown := sorted(set(part) - {"type", kind}):
        raise TrainingFileInvalid(f"{where}: unknown field {shown(unknown[0])}; a picture is {SHAPES}")
    inner = part.get(kind)
    if not isinstance(inner, dict):
        raise TrainingFileInvalid(f"{where}.{kind} must be an object; a picture is {SHAPES}")
    field = "url" if kind == "image_url" else "file_id"
    if unknown := sorted(set(inner) - {field, "detail"}):
        raise TrainingFileInvalid(f"{where}.{kind}: unknown field {shown(unknown[0])}; there are {field} and detail")
    if field not in inner:
        raise TrainingFileInvalid(f"{where}.{kind}.{field} is missing; a picture is {SHAPES}")
    detail = inner.get("detail", "auto")
    if detail not in DETAILS:
        raise TrainingFileInvalid(
            f"{where}.{kind}.detail {shown(detail)} is unknown; it is one of {', '.join(DETAILS)}"
        )
    name = check_text(inner[field], f"{where}.{kind}.{field}")
    return PicturePart(where=where, kind=_kind_of(name, field, f"{where}.{kind}.{field}"), name=name, detail=detail)


def refuse_part(part: object, where: str) -> TrainingFileInvalid:
    """Return the error for a part that is neither text nor a picture."""
    if not isinstance(part, dict):
        return TrainingFileInvalid(f"{where} must be an object with a type, not {json_kind(part)}")
    kind = part.get("type")
    hint = hint_for(kind) or 'a part is {"type": "text", "text": ...} or ' + SHAPES
    return TrainingFileInvalid(f"{where} is {shown(kind)}; {hint}")


def _kind_of(name: str, field: str, where: str) -> PictureKind:
    if field == "file_id" or _FILE_ID.fullmatch(name):
        if not _FILE_ID.fullmatch(name):
            raise TrainingFileInvalid(f"{where} {shown(name)} is no file id, such as file-0123456789abcdef01234567")
        return PictureKind.FILE
    scheme = _SCHEME.match(name)
    if scheme is None:
        return PictureKind.PATH
    if scheme[0].lower() == "data:":
        return PictureKind.DATA
    raise TrainingFileInvalid(
        f"{where} is {shown(name)}: pictures are not fetched from {scheme[0].lower()[:-1]} addresses; give a data URL, "
        "the id of an uploaded file, or a path below the folder of pictures"
    )
