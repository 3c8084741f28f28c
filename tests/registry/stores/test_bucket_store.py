"""Artifacts in a bucket of a real S3 server: shared by homes that share nothing else, whole or not there at all."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import sqlalchemy as sa

from registry.artifacts import folder_digest
from registry.database import Registry, open_registry
from registry.errors import ArtifactCorrupt, ArtifactsUnavailable, NotFound, StorageFull
from registry.publishing.publish import publish
from registry.settings import RegistrySettings
from registry.stores.bucket import Bucket
from registry.stores.bucket_store import RESUMED_WITHIN_S, BucketStore
from registry.stores.cache import ArtifactCache
from registry.stores.cache_figures import read_figures
from registry.transactions import Transactions, open_engine
from registry.types import Base, RevisionDraft
from tests.registry.stores.conftest import use
from tests.seaweedfs import BUCKET, CuttingProxy

PART = 1 << 20


class Home:
    """One machine: a cache of its own, and the database that all machines share."""

    def __init__(self, folder: Path, url: str, database: Path, referenced: set[str], limit: int = 1 << 30) -> None:
        self.now = time.time()
        self._engine = open_engine(f"sqlite:///{database}")
        self.transactions = Transactions(self._engine, lambda: self.now)
        cache = ArtifactCache(folder, limit, lambda: self.now)
        self.store = BucketStore(Bucket(url), cache, self.transactions, referenced.copy, part_bytes=PART)

    def put(self, folder: Path) -> str:
        with self.store.publishing() as staging:
            digest = staging.put_folder(folder)
            with staging.committing() as install, self.transactions.write() as tx:
                install(tx)
        return digest


MakeHome = Callable[..., Home]


@pytest.fixture
def references() -> set[str]:
    """The digests that rows refer to."""
    return set()


@pytest.fixture
def make_home(tmp_path: Path, bucket_url: str, references: set[str]) -> Iterator[MakeHome]:
    made: list[Home] = []

    def make(name: str, limit: int = 1 << 30) -> Home:
        made.append(Home(tmp_path / name, bucket_url, tmp_path / "registry.db", references, limit))
        return made[-1]

    yield make
    for home in made:
        home.transactions.close()


def large_folder(path: Path, parts: int = 6) -> Path:
    path.mkdir()
    (path / "weights").write_bytes(os.urandom(parts * PART - 7))
    (path / "config.json").write_bytes(b"{}")
    return path


@pytest.mark.long
def test_what_one_home_publishes_another_reads(make_home: MakeHome, small_folder: Path) -> None:
    first, second = make_home("first"), make_home("second")
    digest = first.put(small_folder)
    assert first.put(small_folder) == digest == folder_digest(small_folder)
    assert folder_digest(second.store.folder(digest)) == digest
    assert second.store.kinds(digest) == ["folders"]
    assert second.store.folder(digest).is_relative_to(second.store.disk)
    with pytest.raises(NotFound):
        second.store.folder("0" * 64)
    with pytest.raises(NotFound):
        second.store.file(digest)
    figures = read_figures(second.store.disk)
    assert (figures.hits, figures.misses, figures.fetched_bytes) == (1, 1, 6)


def test_files_of_many_parts_come_back_as_they_were(make_home: MakeHome, tmp_path: Path) -> None:
    first, second = make_home("first"), make_home("second")
    body = os.urandom(3 * PART + 5)
    with first.store.publishing() as staging:
        digest, size = staging.put_chunks([body[:100], body[100:]])
        empty, _ = staging.put_chunks([])
        with staging.committing() as install, first.transactions.write() as tx:
            install(tx)
    assert size == len(body)
    assert second.store.file(digest).read_bytes() == body
    assert second.store.file(empty).read_bytes() == b""
    assert len(Bucket(first.store.bucket.url).sizes(f"files/{digest}/")) == 4


@pytest.mark.long
def test_two_publishers_of_the_same_bytes_at_once_leave_one_whole_artifact(make_home: MakeHome, tmp_path: Path) -> None:
    folder = large_folder(tmp_path / "large")
    homes = [make_home(f"home-{number}") for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        digests = set(pool.map(lambda home: home.put(folder), homes))
    reader = make_home("reader")
    assert {folder_digest(reader.store.folder(digest)) for digest in digests} == {folder_digest(folder)}


@pytest.mark.long
def test_a_cut_transfer_goes_on_where_it_was(
    make_home: MakeHome, s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = large_folder(tmp_path / "large", parts=24)
    size = (folder / "weights").stat().st_size
    proxy = CuttingProxy(s3)
    use(proxy.address, monkeypatch)
    first, second = make_home("first"), make_home("second")
    proxy.budget = size // 2
    with pytest.raises(ArtifactsUnavailable, match="does not answer"):
        first.put(folder)
    proxy.budget = None
    there = sum(first.store.bucket.sizes(f"folders/{folder_digest(folder)}/").values())
    assert 0 < there < size
    proxy.passed = 0
    digest = first.put(folder)
    assert proxy.passed < size - there + 2 * PART

    proxy.passed, proxy.budget = 0, size // 2
    with pytest.raises(ArtifactsUnavailable):
        second.store.folder(digest)
    proxy.passed, proxy.budget = 0, None
    assert folder_digest(second.store.folder(digest)) == digest
    assert proxy.passed < size - PART
    proxy.close()


def test_wrong_bytes_are_refused_until_they_are_published_again(make_home: MakeHome, small_folder: Path) -> None:
    first, second = make_home("first"), make_home("second")
    digest = first.put(small_folder)
    part = next(key for key in first.store.bucket.sizes(f"folders/{digest}/") if key.endswith("b.json.00000"))
    first.store.bucket.overwrite(part, b"[]")
    with pytest.raises(ArtifactCorrupt, match=r"b\.json .* do not match their digest"):
        second.store.folder(digest)
    assert not (second.store.disk / "folders" / digest).exists()
    make_home("third").put(small_folder)
    assert folder_digest(second.store.folder(digest)) == digest


def test_a_missing_part_and_a_foreign_description_are_refused(make_home: MakeHome, small_folder: Path) -> None:
    first, second = make_home("first"), make_home("second")
    digest = first.put(small_folder)
    bucket = first.store.bucket
    bucket.delete([f"folders/{digest}/b.json.00000"])
    with pytest.raises(ArtifactCorrupt, match="is gone"):
        second.store.folder(digest)
    bucket.overwrite(f"folders/{digest}.json", b'{"files": [], "part_bytes": 1}')
    with pytest.raises(ArtifactCorrupt, match="another one"):
        second.store.folder(digest)


def test_a_copy_that_changed_on_the_disk_is_fetched_anew(make_home: MakeHome, small_folder: Path) -> None:
    home = make_home("first")
    digest = home.put(small_folder)
    hurt = home.store.folder(digest) / "b.json"
    hurt.chmod(0o600)
    hurt.write_bytes(b"[]")
    assert folder_digest(home.store.folder(digest)) == digest


def test_what_no_row_refers_to_is_removed_and_what_one_does_stays(
    make_home: MakeHome, references: set[str], small_folder: Path
) -> None:
    home = make_home("first")
    digest = home.put(small_folder)
    references.add(digest)
    with home.store.discarding(digest):
        pass
    assert home.store.has_folder(digest)
    references.clear()
    with home.store.discarding(digest):
        pass
    assert home.store.bucket.sizes("folders/") == {}
    with pytest.raises(NotFound):
        home.store.folder(digest)


def test_a_publication_whose_bytes_were_removed_meanwhile_sends_them_again(
    make_home: MakeHome, small_folder: Path
) -> None:
    first, second = make_home("first"), make_home("second")
    digest = first.put(small_folder)
    with second.store.publishing() as staging:
        staging.put_folder(small_folder)
        with staging.committing() as install:
            with first.store.discarding(digest):
                pass
            with second.transactions.write() as tx:
                install(tx)
    assert folder_digest(make_home("third").store.folder(digest)) == digest


def test_what_a_failed_publication_sent_is_removed_in_time(make_home: MakeHome, small_folder: Path) -> None:
    home = make_home("first")
    with pytest.raises(RuntimeError), home.store.publishing() as staging:
        staging.put_folder(small_folder)
        with staging.committing() as install, home.transactions.write() as tx:
            install(tx)
            raise RuntimeError
    assert home.store.recover() == []
    home.now += 2 * RESUMED_WITHIN_S
    assert home.store.recover() == [folder_digest(small_folder)]
    assert home.store.bucket.sizes("folders/") == {}
    assert list((home.store.disk / "staging").iterdir()) == []


def test_an_artifact_that_does_not_fit_is_refused_with_the_setting(make_home: MakeHome, tmp_path: Path) -> None:
    digest = make_home("first").put(large_folder(tmp_path / "large", parts=2))
    with pytest.raises(StorageFull, match="artifact_cache_bytes"):
        make_home("small", limit=PART).store.folder(digest)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"AWS_ACCESS_KEY_ID": "other"}, r"are wrong \(InvalidAccessKeyId"),
        ({"AWS_SECRET_ACCESS_KEY": "other"}, r"are wrong \(SignatureDoesNotMatch"),
    ],
)
def test_wrong_credentials_are_named(
    s3: str, bucket_url: str, monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], message: str
) -> None:
    use(s3, monkeypatch, **changed)
    with pytest.raises(ArtifactsUnavailable, match=message) as caught:
        Bucket(bucket_url).check()
    assert "AWS_*" in str(caught.value)


def test_a_bucket_that_is_not_there_is_named(s3: str, bucket_url: str) -> None:
    with pytest.raises(ArtifactsUnavailable, match="does not exist"):
        Bucket("s3://not-there/prefix").check()
    with pytest.raises(ArtifactsUnavailable, match="does not exist"):
        Bucket("s3://not-there/prefix").read("x")
    Bucket(bucket_url).check()
    assert Bucket(bucket_url).sizes("checks/") == {}


class OddServer(BaseHTTPRequestHandler):
    """An S3 server of a kind that cannot be had: it ignores conditions, or its callers' credentials have expired."""

    objects: dict[str, bytes] | None = None

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.objects is None:
            self._answer(400, b"<Error><Code>ExpiredToken</Code><Message>The token has expired.</Message></Error>")
        else:
            self.objects[self.path] = body
            self._answer(200, b"")

    def do_GET(self) -> None:
        assert self.objects is not None
        listed = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
        self._answer(200, self.objects.get(self.path, listed))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._answer(200, b"<DeleteResult><Deleted><Key>any</Key></Deleted></DeleteResult>")

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header("etag", '"1"')
        self.send_header("last-modified", "Mon, 30 Nov 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)


@pytest.mark.parametrize(
    ("objects", "message"),
    [(None, r"have expired \(ExpiredToken: The token has expired\.\): renew AWS_\*"), ({}, "ignores If-None-Match")],
)
def test_expired_credentials_and_servers_without_conditions_are_named(
    monkeypatch: pytest.MonkeyPatch, objects: dict[str, bytes] | None, message: str
) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Server", (OddServer,), {"objects": objects}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    use(f"http://127.0.0.1:{server.server_port}", monkeypatch)
    try:
        with pytest.raises(ArtifactsUnavailable, match=message):
            Bucket(f"s3://{BUCKET}/odd").check()
    finally:
        server.shutdown()
        server.server_close()


def test_a_revision_that_one_registry_publishes_is_served_from_another_home(
    sqlite_settings: RegistrySettings, bucket_url: str, base: Base, make_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    def opened(home: str) -> Registry:
        place = {"artifacts": bucket_url, "artifact_cache": tmp_path / home}
        return open_registry(sqlite_settings.model_copy(update=place))

    here, there = opened("here"), opened("there")
    try:
        here.bases.enter(base)
        draft = RevisionDraft(adapter="support", base=base.name, owner="ann")
        revision = publish(here, make_adapter(), draft)
        assert folder_digest(there.artifacts.folder(revision.artifact)) == revision.artifact
        with there.transactions.read() as tx:
            assert revision.artifact in there.referenced_artifacts()
            assert tx.execute(sa.text("select 1")).scalar() == 1
        file = there.files.add([b"{}\n"], filename="a.jsonl", purpose="fine-tune", owner="ann")
        assert here.files.path(file).read_bytes() == b"{}\n"
        there.files.delete(file.id)
        assert here.artifacts.kinds(file.digest) == []
    finally:
        here.close()
        there.close()
