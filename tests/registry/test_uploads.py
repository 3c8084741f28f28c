"""An upload in parts becomes one file or nothing, and leaves no bytes behind."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import md5
from pathlib import Path
from typing import IO

import pytest

from registry.database import Registry
from registry.errors import Conflict, IllegalMove, NotFound, TrainingFileInvalid, UploadRejected
from registry.files.upload import LASTS_S, Upload, UploadDraft, UploadState

MOST = 2
WHOLE = b"first part, second part"


def announce(registry: Registry, size: int = len(WHOLE), tenant: str = "ann") -> Upload:
    draft = UploadDraft(
        filename="rows.jsonl",
        purpose="user_data",
        mime_type="text/plain",
        size_bytes=size,
        file_expires_after_s=3600,
        owner="ann",
        tenant=tenant,
    )
    return registry.uploads.create(draft, MOST)


def send(registry: Registry, upload: Upload, *parts: bytes) -> list[str]:
    return [registry.uploads.add_part(upload.id, [part[:3], part[3:]]).id for part in parts]


def anything(_: IO[bytes]) -> None:
    return


def stored(tmp_path: Path) -> int:
    return len(list((tmp_path / "artifacts" / "files").iterdir()))


def test_parts_become_a_file_in_the_order_that_is_asked_for(registry: Registry, tmp_path: Path) -> None:
    upload = announce(registry)
    second, first = send(registry, upload, WHOLE[11:], WHOLE[:11])
    checksum = md5(WHOLE, usedforsecurity=False).hexdigest().upper()
    done = registry.uploads.complete(upload.id, [first, second], checksum, anything)
    assert done.state is UploadState.COMPLETED
    file = registry.files.get(str(done.file_id))
    assert registry.files.path(file).read_bytes() == WHOLE
    assert (file.filename, file.purpose, file.tenant, file.owner) == ("rows.jsonl", "user_data", "ann", "ann")
    assert file.expires_at == file.created_at + 3600
    assert registry.uploads.complete(upload.id, [first, second], None, anything) == done
    assert stored(tmp_path) == 3
    registry.remove_expired()
    assert stored(tmp_path) == 1
    with pytest.raises(IllegalMove, match="is completed"):
        send(registry, upload, b"late")
    with pytest.raises(IllegalMove, match="is completed"):
        registry.uploads.cancel(upload.id)


def test_parts_that_are_not_the_announced_file_are_refused(registry: Registry) -> None:
    upload, other = announce(registry), announce(registry)
    first, second = send(registry, upload, WHOLE[:11], WHOLE[11:])
    (foreign,) = send(registry, other, WHOLE)
    wrong: list[tuple[list[str], str | None, str]] = [
        ([first], None, "part_ids: these parts have 11 bytes, but 23"),
        ([first, first], None, "part_ids: a part is named twice"),
        ([foreign], None, "part_ids: .* is not a part of this upload"),
        ([first, second], "0" * 32, "md5: the parts have the md5"),
    ]
    for part_ids, checksum, said in wrong:
        with pytest.raises(UploadRejected, match=said):
            registry.uploads.complete(upload.id, part_ids, checksum, anything)
    for part, said in ((b"", "data: the part is empty"), (b"x", "24 bytes, but 23 were announced")):
        with pytest.raises(UploadRejected, match=said):
            send(registry, upload, part)
    assert registry.uploads.get(upload.id).state is UploadState.PENDING


def test_bytes_that_do_not_fit_the_purpose_make_no_file(registry: Registry) -> None:
    upload = announce(registry)
    parts = send(registry, upload, WHOLE)

    def refuse(whole: IO[bytes]) -> None:
        raise TrainingFileInvalid(whole.read(5).decode())

    with pytest.raises(TrainingFileInvalid, match="first"):
        registry.uploads.complete(upload.id, parts, None, refuse)
    assert registry.files.list() == []
    assert registry.uploads.get(upload.id).state is UploadState.PENDING


def test_unfinished_uploads_are_bounded_and_expire(
    registry: Registry, advance: Callable[[float], None], tmp_path: Path
) -> None:
    upload, cancelled = announce(registry), announce(registry)
    send(registry, upload, WHOLE[:11])
    with pytest.raises(Conflict, match="2 uploads are unfinished"):
        announce(registry)
    announce(registry, tenant="bob")
    registry.uploads.cancel(cancelled.id)
    assert registry.uploads.cancel(cancelled.id).state is UploadState.CANCELLED
    advance(LASTS_S / 2)
    young = announce(registry)
    send(registry, young, WHOLE[:11])
    advance(LASTS_S / 2)
    with pytest.raises(IllegalMove, match="is expired"):
        send(registry, upload, WHOLE[11:])
    registry.remove_expired()
    assert registry.uploads.get(upload.id).state is UploadState.EXPIRED
    assert stored(tmp_path) == 1, "a younger upload has a part of the same bytes"
    advance(LASTS_S)
    registry.remove_expired()
    assert stored(tmp_path) == 0


def test_an_upload_of_another_tenant_does_not_exist(registry: Registry) -> None:
    upload = announce(registry)
    for call in (
        lambda: registry.uploads.get(upload.id, "bob"),
        lambda: registry.uploads.add_part(upload.id, [b"x"], "bob"),
        lambda: registry.uploads.complete(upload.id, ["p"], None, anything, "bob"),
        lambda: registry.uploads.cancel(upload.id, "bob"),
    ):
        with pytest.raises(NotFound, match=upload.id):
            call()
