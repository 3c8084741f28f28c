"""Files of every purpose, whole and in parts, through the real OpenAI client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import md5
from pathlib import Path
from typing import Any

import openai
import pytest
from starlette.testclient import TestClient

from gateway.app import build_app, build_gateway
from gateway.settings import GatewaySettings
from registry.contracts.uploads.file_purposes import PURPOSES
from registry.database import Registry
from registry.types import Base
from tests.gateway.openai.test_openai_face import ROWS, jsonl

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


@pytest.fixture
def client(sqlite_registry: Registry, base: Base) -> Iterator[openai.OpenAI]:
    sqlite_registry.bases.enter(base)
    gateway = build_gateway(GatewaySettings(max_upload_bytes=100_000, max_pending_uploads=2), sqlite_registry)
    with TestClient(build_app(gateway), base_url="http://localhost") as http:
        yield openai.OpenAI(base_url="http://localhost/v1", api_key="none", http_client=http, max_retries=0)


@pytest.mark.parametrize("purpose", [name for name in PURPOSES if name != "fine-tune"])
def test_only_training_data_is_checked_as_such(client: openai.OpenAI, purpose: Any) -> None:
    file = client.files.create(file=("cat.png", PNG), purpose=purpose)
    assert (file.purpose, file.bytes, file.filename, file.status) == (purpose, len(PNG), "cat.png", "processed")
    assert client.files.content(file.id).read() == PNG
    assert [other.id for other in client.files.list(purpose=purpose)] == [file.id]
    assert file.expires_at == (file.created_at + 30 * 86400 if purpose == "batch" else None)
    with pytest.raises(openai.BadRequestError, match="purpose must be fine-tune") as refused:
        client.fine_tuning.jobs.create(model="tiny", training_file=file.id)
    assert refused.value.param == "training_file"


def test_a_file_expires_when_it_was_asked_to(
    client: openai.OpenAI, sqlite_registry: Registry, advance: Callable[[float], None]
) -> None:
    after: Any = {"anchor": "created_at", "seconds": 3600}
    file = client.files.create(file=jsonl(ROWS), purpose="fine-tune", expires_after=after)
    assert file.expires_at == file.created_at + 3600
    advance(3601.0)
    sqlite_registry.remove_expired()
    for call in (lambda: client.files.retrieve(file.id), lambda: client.files.content(file.id)):
        with pytest.raises(openai.NotFoundError):
            call()


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"expires_after": {"anchor": "created_at", "seconds": 3599}}, "expires_after.seconds"),
        ({"expires_after": {"anchor": "created_at", "seconds": 2592001}}, "expires_after.seconds"),
        ({"expires_after": {"anchor": "created_at", "seconds": "soon"}}, "expires_after.seconds"),
        ({"expires_after": {"anchor": "last_active_at", "seconds": 3600}}, "expires_after.anchor"),
        ({"expires_after": {"anchor": "created_at"}}, "expires_after.seconds"),
        ({"expires_after": {"seconds": 3600}}, "expires_after.anchor"),
        ({"expires_after": {"anchor": "created_at", "seconds": 3600, "days": 2}}, "expires_after[days]"),
        ({"extra_body": {"tags": "x"}}, "tags"),
        ({"purpose": "fine-tune-results"}, "purpose"),
        ({"purpose": "avatars"}, "purpose"),
        ({"file": ("x" * 256, b"x")}, "file"),
        ({"file": ("big.jsonl", b"x" * 100_001)}, "file"),
    ],
)
def test_a_fault_of_an_upload_is_named(client: openai.OpenAI, more: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        client.files.create(**{"file": jsonl(ROWS), "purpose": "fine-tune", **more})
    assert refused.value.status_code in (400, 413)
    assert refused.value.param == param
    assert list(client.files.list()) == []


@pytest.mark.long
def test_a_file_is_uploaded_in_chunks_from_disk_and_from_memory(client: openai.OpenAI, tmp_path: Path) -> None:
    content = jsonl(ROWS)[1]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    checksum = md5(content, usedforsecurity=False).hexdigest()
    from_disk = client.uploads.upload_file_chunked(
        file=path, mime_type="text/jsonl", purpose="fine-tune", part_size=100, md5=checksum
    )
    in_memory = client.uploads.upload_file_chunked(
        file=content, filename="b", bytes=len(content), mime_type="a/b", purpose="evals", part_size=4096
    )
    for upload, name in ((from_disk, "rows.jsonl"), (in_memory, "b")):
        assert (upload.status, upload.bytes, upload.filename) == ("completed", len(content), name)
        assert upload.file is not None
        assert client.files.content(upload.file.id).read() == content
    assert from_disk.file is not None
    assert client.fine_tuning.jobs.create(
        model="tiny",
        training_file=from_disk.file.id,
        extra_body={"hyperparameters": {"lora_rank": 2, "target_modules": ["q_proj"]}},
    ).training_file


def announce(client: openai.OpenAI, **more: Any) -> Any:
    return client.uploads.create(
        **{"bytes": 4, "filename": "a.txt", "mime_type": "text/plain", "purpose": "user_data", **more}
    )


def test_an_upload_that_is_cancelled_takes_no_part_and_frees_its_place(client: openai.OpenAI) -> None:
    upload, _ = announce(client), announce(client)
    with pytest.raises(openai.ConflictError, match="2 uploads are unfinished"):
        announce(client)
    assert client.uploads.parts.create(upload.id, data=b"ab").upload_id == upload.id
    assert client.uploads.cancel(upload.id).status == "cancelled"
    announce(client)
    with pytest.raises(openai.ConflictError, match="is cancelled"):
        client.uploads.parts.create(upload.id, data=b"cd")
    with pytest.raises(openai.NotFoundError):
        client.uploads.cancel("upload_none")


def test_training_data_in_parts_is_checked_when_it_is_whole(client: openai.OpenAI) -> None:
    upload = announce(client, purpose="fine-tune")
    part = client.uploads.parts.create(upload.id, data=b"text")
    with pytest.raises(openai.BadRequestError, match="line 1: is not valid JSON"):
        client.uploads.complete(upload.id, part_ids=[part.id])


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"bytes": 0}, "bytes"),
        ({"bytes": 100_001}, "bytes"),
        ({"purpose": "avatars"}, "purpose"),
        ({"filename": "x" * 256}, "filename"),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, "expires_after.seconds"),
    ],
)
def test_a_fault_of_an_announcement_is_named(client: openai.OpenAI, more: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        announce(client, **more)
    assert (refused.value.status_code in (400, 413), refused.value.param) == (True, param)
