"""A bucket of a real S3 server, and registries that keep their artifacts there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.seaweedfs import BUCKET, credentials, s3_server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with the bucket."""
    with s3_server(tmp_path_factory.mktemp("seaweedfs")) as address:
        yield address


@pytest.fixture
def bucket_url(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place in the bucket for one test, for which this process has the credentials."""
    use(s3, monkeypatch)
    return f"s3://{BUCKET}/{uuid4().hex}"


def use(endpoint: str, monkeypatch: pytest.MonkeyPatch, **changed: str) -> None:
    """Give this process the credentials for the server at *endpoint*, with some of them *changed*."""
    for name, value in (credentials(endpoint) | changed).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def small_folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    (made / "inner").mkdir(parents=True)
    (made / "b.json").write_bytes(b"{}")
    (made / "empty.txt").write_bytes(b"")
    (made / "inner" / "a ü%20.txt").write_bytes(b"text")
    return made
