"""Chats with pictures in a training file: what a line may name, and what is refused with its line."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from registry.contracts.pictures.picture_bytes import MOST_BYTES, open_picture
from registry.contracts.pictures.picture_part import PictureKind
from registry.contracts.pictures.picture_sources import PictureSources, check_named
from registry.contracts.training_formats import CHATS, RATED_CHATS, check_training_lines, read_lines
from registry.errors import NotFound, TrainingFileInvalid

ANSWER = {"role": "assistant", "content": "red"}
TEXT = {"type": "text", "text": "Which colour?"}


def picture_bytes(kind: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (4, 3), **settings: Any) -> bytes:
    written = BytesIO()
    Image.new(mode, size, 1).save(written, kind, **settings)
    return written.getvalue()


def data_url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def url_part(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def row(*parts: Any, role: str = "user") -> bytes:
    messages = [{"role": "user", "content": "hi"}, {"role": role, "content": [*parts]}, ANSWER]
    return json.dumps({"messages": messages}).encode()


def sources(folder: Path | None = None) -> PictureSources:
    def missing(file_id: str) -> Path:
        raise NotFound(f"there is no file {file_id!r}")

    return PictureSources(find_file=missing, folder=folder)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_pictures_of_three_formats_are_counted(kind: str) -> None:
    line = row(url_part(data_url(picture_bytes(kind), kind.lower()), detail="low"), TEXT)
    summary = check_training_lines([line] * 10)
    assert (summary.pictures, summary.ignored) == (10, {"detail": 10})


def test_a_message_keeps_the_order_of_texts_and_pictures() -> None:
    line = row(TEXT, url_part("a/b.png"), {"type": "image_file", "image_file": {"file_id": "file-ab1"}}, TEXT)
    chat = next(read_lines([line], (CHATS,)))
    assert [picture.kind for picture in chat.pictures] == [PictureKind.PATH, PictureKind.FILE]
    kinds = [part["type"] for part in chat.messages[1].as_parts()]
    assert kinds == ["text", "image", "image", "text"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            row(url_part("https://x.org/a.png")),
            'messages[1].content[0].image_url.url is "https://x.org/a.png": pictures',
        ),
        (row(url_part("ftp://x.org/a.png")), 'messages[1].content[0].image_url.url is "ftp://x.org/a.png": pictures'),
        (row(url_part("file:///etc/passwd")), 'messages[1].content[0].image_url.url is "file:///etc/passwd"'),
        (row(url_part("a.png", detail="huge")), 'messages[1].content[0].image_url.detail "huge" is unknown'),
        (row(url_part("a.png", size=3)), 'messages[1].content[0].image_url: unknown field "size"'),
        (row({"type": "image_url", "image_url": {}}), "messages[1].content[0].image_url.url is missing"),
        (row({"type": "image_file", "image_file": {"file_id": "x"}}), "messages[1].content[0].image_file.file_id"),
        (row({"type": "input_image", "image_url": "x"}), 'messages[1].content[0] is "input_image"; that is a part of'),
        (row(*[url_part("a.png")] * 11), "messages has 11 pictures; the most in an example are 10"),
        (row(url_part("a.png"), TEXT, role="system"), "messages[1].content[0] is a picture; only a user message"),
        (row(url_part("data:image/png,abc")), "messages[1].content[0]: the data URL must be data:image/png;base64"),
        (row(url_part("data:image/png;base64,@@")), "messages[1].content[0]: the data URL is not valid base64"),
        (row(url_part(data_url(b"GIF89a"))), "messages[1].content[0]: is not a picture in JPEG, PNG, WEBP"),
        (row(url_part(data_url(picture_bytes()[:45]))), "messages[1].content[0]: the picture is broken"),
        (
            row(url_part("data:image/png;base64," + "A" * MOST_BYTES * 2)),
            "messages[1].content[0]: the picture has 15,728,640 bytes",
        ),
        (
            row(url_part(data_url(picture_bytes(mode="1", size=(9000, 6000))))),
            "messages[1].content[0]: the picture has 9000 x 6000",
        ),
    ],
    ids=range(16),
)
def test_what_cannot_be_learnt_is_named_by_line_and_part(line: bytes, expected: str) -> None:
    with pytest.raises(TrainingFileInvalid) as caught:
        check_training_lines([line] * 10)
    assert str(caught.value).startswith(f"line 1: {expected}")


def test_a_method_that_learns_no_pictures_refuses_them() -> None:
    line = json.dumps({**json.loads(row(url_part("a.png"))), "label": True}).encode()
    with pytest.raises(TrainingFileInvalid, match=r"line 1: messages\[1\]\.content\[0\] is a picture; .* supervised"):
        check_training_lines([line] * 10, wanted=(RATED_CHATS,))


def test_pictures_are_opened_as_engines_open_them() -> None:
    turned = Image.new("RGB", (2, 5), (255, 0, 0))
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    written = BytesIO()
    turned.save(written, "JPEG", exif=exif)
    assert open_picture(written.getvalue(), "here").size == (5, 2)
    clear = open_picture(picture_bytes(mode="RGBA"), "here")
    assert (clear.mode, clear.getpixel((0, 0))) == ("RGB", (255, 255, 255))


def test_paths_are_read_below_the_folder_only(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(picture_bytes())
    (tmp_path / "b.png").write_bytes(picture_bytes())
    (folder / "link.png").symlink_to(tmp_path / "b.png")

    def digest(name: str, below: Path | None = folder) -> str | None:
        return check_named(next(read_lines([row(url_part(name))], (CHATS,))).pictures, sources(below))

    first = digest("a.png")
    for name in ("../b.png", "link.png", str(tmp_path / "b.png"), "x/../../b.png"):
        with pytest.raises(TrainingFileInvalid, match=r"line 1: .* does not lie below the folder"):
            digest(name)
    for name in ("none.png", ".", "a" * 5000):
        with pytest.raises(TrainingFileInvalid, match=r"line 1: messages\[1\]\.content\[0\]: "):
            digest(name)
    with pytest.raises(TrainingFileInvalid, match="picture_folder"):
        digest("a.png", None)
    with pytest.raises(TrainingFileInvalid, match=r"line 1: .* there is no file 'file-ab1'; .* purpose vision"):
        digest("file-ab1")
    (folder / "a.png").write_bytes(picture_bytes(size=(5, 5)))
    assert digest("a.png") != first
