"""Artifacts match their digest or are refused, and cleaning up removes only those of dead processes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from registry.artifacts import folder_digest
from registry.errors import AdapterRejected, ArtifactCorrupt, NotFound, RegistryUnavailable
from registry.stores.folder_store import FolderStore


@pytest.fixture
def references() -> set[str]:
    """The digests that rows refer to."""
    return set()


@pytest.fixture
def store(tmp_path: Path, references: set[str]) -> FolderStore:
    return FolderStore(tmp_path / "artifacts", references.copy)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    (made / "inner").mkdir(parents=True)
    (made / "b.json").write_bytes(b"{}")
    (made / "inner" / "a.txt").write_bytes(b"text")
    return made


def put(store: FolderStore, folder: Path) -> str:
    with store.publishing() as staging:
        digest = staging.put_folder(folder)
        with staging.committing() as install:
            install(None)
    return digest


def test_the_digest_of_a_folder_is_that_of_its_sorted_manifest(folder: Path) -> None:
    lines = sorted(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        for name, content in (("b.json", b"{}"), ("inner/a.txt", b"text"))
    )
    assert folder_digest(folder) == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_hidden_files_are_no_part_of_a_folder(store: FolderStore, folder: Path) -> None:
    before = folder_digest(folder)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "lock").write_text("x")
    (folder / ".gitattributes").write_text("x")
    assert folder_digest(folder) == before
    assert sorted(os.listdir(store.folder(put(store, folder)))) == ["b.json", "inner"]


def test_a_folder_is_read_back_as_it_was_put(store: FolderStore, folder: Path) -> None:
    digest = put(store, folder)
    assert digest == folder_digest(folder) == folder_digest(store.folder(digest))
    assert put(store, folder) == digest
    with pytest.raises(NotFound):
        store.folder("0" * 64)
    with pytest.raises(NotFound):
        store.file("0" * 64)


@pytest.mark.parametrize("damage", ["changed", "added", "removed"])
def test_a_damaged_folder_is_refused_until_it_is_put_again(store: FolderStore, folder: Path, damage: str) -> None:
    digest = put(store, folder)
    hurt = store.folder(digest) / "b.json"
    if damage == "changed":
        hurt.chmod(0o600)
        hurt.write_bytes(b"[]")
    elif damage == "added":
        hurt.with_name("c.json").write_bytes(b"{}")
    else:
        hurt.unlink()
    with pytest.raises(ArtifactCorrupt, match=digest):
        store.folder(digest)
    put(store, folder)
    assert store.folder(digest).is_dir()


def test_only_plain_files_are_taken(store: FolderStore, folder: Path) -> None:
    for make, name in (
        (os.mkfifo, "pipe"),
        (lambda path: path.symlink_to("nowhere"), "dangling"),
        (lambda path: path.symlink_to(folder.parent), "linked-folder"),
        (lambda path: path.write_text("x"), "two\nlines"),
    ):
        make(folder / name)
        with pytest.raises(AdapterRejected, match="not a regular file"), store.publishing() as staging:
            staging.put_folder(folder)
        (folder / name).unlink()
    with pytest.raises(AdapterRejected, match="no folder"), store.publishing() as staging:
        staging.put_folder(folder / "nowhere")


def test_recovery_leaves_a_living_publisher_alone(store: FolderStore, folder: Path, tmp_path: Path) -> None:
    with store.publishing() as staging:
        digest = staging.put_folder(folder)
        assert FolderStore(tmp_path / "artifacts", set).recover() == []
        with staging.committing() as install:
            install(None)
    assert store.folder(digest).is_dir()


@pytest.mark.parametrize("was_committed", [False, True])
def test_a_commit_that_failed_leaves_the_artifact_only_if_a_row_refers_to_it_after_all(
    store: FolderStore, references: set[str], folder: Path, tmp_path: Path, was_committed: bool
) -> None:
    digest = folder_digest(folder)
    with pytest.raises(ConnectionResetError), store.publishing() as staging:
        staging.put_folder(folder)
        with staging.committing() as install:
            install(None)
            references.update({digest} if was_committed else ())
            raise ConnectionResetError("while the database committed")
    assert (tmp_path / "artifacts" / "folders" / digest).exists() == was_committed
    assert os.listdir(tmp_path / "artifacts" / "staging") == []


def test_what_failed_while_the_database_was_away_is_cleared_later(folder: Path, tmp_path: Path) -> None:
    def away() -> set[str]:
        raise RegistryUnavailable("the database does not answer")

    with pytest.raises(RegistryUnavailable), FolderStore(tmp_path / "artifacts", away).publishing() as staging:
        digest = staging.put_folder(folder)
        with staging.committing() as install:
            install(None)
            raise RegistryUnavailable("the database does not answer")
    assert FolderStore(tmp_path / "artifacts", set).recover() == [digest]
    assert os.listdir(tmp_path / "artifacts" / "folders") == os.listdir(tmp_path / "artifacts" / "staging") == []


def test_the_first_error_of_a_publication_is_the_one_that_is_raised(store: FolderStore) -> None:
    with pytest.raises(AdapterRejected, match="the reason"), store.publishing() as staging:
        staging.path.rename(staging.path.with_name("moved"))
        staging.path.write_bytes(b"")  # nothing of the publication can be removed by its path
        raise AdapterRejected("the reason")
