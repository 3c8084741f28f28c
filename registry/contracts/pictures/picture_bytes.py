"""The bytes of a picture: out of a data URL, checked against the bounds, and opened as engines open them.

Pillow is imported by the functions: most gateways and jobs never see a picture.
"""

from __future__ import annotations

import base64
import binascii
import warnings
from io import BytesIO
from typing import TYPE_CHECKING, Final

from registry.errors import TrainingFileInvalid

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_BYTES: Final = 10 * 1024 * 1024
"""OpenAI's rule: bytes of one picture."""
MOST_PIXELS: Final = 50_000_000
"""Pixels of one picture: 150 MB once it is unpacked, whatever its file has."""
FORMATS: Final = ("JPEG", "PNG", "WEBP")


def decode_data_url(url: str, where: str) -> bytes:
    """Return the bytes of a data URL in base64; `TrainingFileInvalid` names what is wrong after *where*."""
    head, comma, payload = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise TrainingFileInvalid(f"{where}: the data URL must be data:image/png;base64,... or another format's")
    if len(payload) > _encoded(MOST_BYTES):
        raise _too_large(where, len(payload) * 3 // 4)
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise TrainingFileInvalid(f"{where}: the data URL is not valid base64: {exc}") from exc


def check_picture(data: bytes, where: str) -> None:
    """Decode *data* once; `TrainingFileInvalid` names what is wrong after *where*."""
    open_picture(data, where)


def open_picture(data: bytes, where: str) -> Image:
    """Return the picture in RGB, turned as its EXIF data says, transparency over white, as vLLM does it."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    if len(data) > MOST_BYTES:
        raise _too_large(where, len(data))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own limit of pixels lies above ours; odd EXIF data does no harm
            picture = Image.open(BytesIO(data), formats=FORMATS)
            _check_shape(picture, where)
            picture.load()
            upright: Image.Image = ImageOps.exif_transpose(picture)
            return _in_rgb(upright)
    except UnidentifiedImageError as exc:
        raise TrainingFileInvalid(f"{where}: is not a picture in {', '.join(FORMATS)}") from exc
    # A broken file makes a decoder raise nearly anything.
    except (OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError, MemoryError) as exc:
        raise TrainingFileInvalid(f"{where}: the picture is broken: {str(exc)[:200] or type(exc).__name__}") from exc


def _check_shape(picture: Image, where: str) -> None:
    wide, high = picture.size
    if wide * high > MOST_PIXELS:
        raise TrainingFileInvalid(f"{where}: the picture has {wide} x {high} pixels; the most are {MOST_PIXELS:,}")
    if getattr(picture, "n_frames", 1) > 1:
        raise TrainingFileInvalid(f"{where}: the picture is animated; give one still picture")


def _in_rgb(picture: Image) -> Image:
    from PIL import Image

    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        over_white = Image.new("RGB", rgba.size, (255, 255, 255))
        over_white.paste(rgba, mask=rgba.split()[3])
        return over_white
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _encoded(count: int) -> int:
    return -(-count // 3) * 4


def _too_large(where: str, count: int) -> TrainingFileInvalid:
    return TrainingFileInvalid(f"{where}: the picture has {count:,} bytes; the most are {MOST_BYTES:,}")
