"""A file is its row and its verified bytes, together or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.database import Registry
from registry.errors import ArtifactCorrupt, NotFound
from registry.types import File


def add(registry: Registry, content: bytes, purpose: str = "fine-tune") -> File:
    return registry.files.add([content[:2], content[2:]], filename="rows.jsonl", purpose=purpose, owner="ann")


def stored(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "artifacts" / "files").iterdir())


def test_a_file_comes_back_as_it_was_sent(registry: Registry) -> None:
    file = add(registry, b"hello rows")
    assert registry.files.get(file.id) == file
    assert (file.size_bytes, file.filename, file.owner) == (10, "rows.jsonl", "ann")
    assert registry.files.path(file).read_bytes() == b"hello rows"


def test_a_file_whose_bytes_changed_is_refused(registry: Registry) -> None:
    file = add(registry, b"hello rows")
    path = registry.files.path(file)
    path.chmod(0o600)
    path.write_bytes(b"other rows")
    with pytest.raises(ArtifactCorrupt, match="no longer matches"):
        registry.files.path(file)
    again = add(registry, b"hello rows")
    assert registry.files.path(again).read_bytes() == b"hello rows"


def test_bytes_are_removed_with_the_last_file_that_has_them(registry: Registry, tmp_path: Path) -> None:
    first, second = add(registry, b"same"), add(registry, b"same")
    assert first.digest == second.digest
    registry.files.delete(first.id)
    assert registry.files.path(second).read_bytes() == b"same"
    registry.files.delete(second.id)
    assert stored(tmp_path) == []
    with pytest.raises(NotFound):
        registry.files.delete(second.id)
    with pytest.raises(NotFound):
        registry.files.path(second)


def test_an_upload_that_breaks_off_leaves_nothing(registry: Registry, tmp_path: Path) -> None:
    def broken() -> object:
        yield b"half"
        raise ConnectionResetError("client left")

    with pytest.raises(ConnectionResetError):
        registry.files.add(broken(), filename="rows.jsonl", purpose="fine-tune", owner="ann")  # type: ignore[arg-type]
    assert registry.files.list() == []
    assert stored(tmp_path) == []
    assert os.listdir(tmp_path / "artifacts" / "staging") == []


def test_the_list_is_ordered_filtered_and_paged(registry: Registry) -> None:
    ids = [add(registry, bytes([number]) * 4).id for number in range(4)]
    other = add(registry, b"report", purpose="fine-tune-results").id
    assert [file.id for file in registry.files.list()] == [other, *ids[::-1]]
    assert [file.id for file in registry.files.list(purposes=["fine-tune"], order="asc", limit=2)] == ids[:2]
    assert [file.id for file in registry.files.list(order="asc", after=ids[2])] == [ids[3], other]
    assert [file.id for file in registry.files.list(after=ids[2], limit=1)] == [ids[1]]
    with pytest.raises(NotFound, match="file-none"):
        registry.files.list(after="file-none")


@pytest.mark.long
def test_adding_and_deleting_the_same_bytes_at_once_never_loses_them(registry: Registry) -> None:
    def add_and_delete(number: int) -> None:
        for turn in range(4):
            file = add(registry, b"same bytes")
            assert registry.files.path(file).read_bytes() == b"same bytes"
            if number or turn < 3:
                registry.files.delete(file.id)

    with ThreadPoolExecutor(4) as threads:
        for outcome in [threads.submit(add_and_delete, number) for number in range(4)]:
            outcome.result()
    (kept,) = registry.files.list()
    assert registry.files.path(kept).read_bytes() == b"same bytes"


def test_a_file_is_gone_when_its_time_is_over(
    registry: Registry, advance: Callable[[float], None], tmp_path: Path
) -> None:
    kept = add(registry, b"kept")
    passing = registry.files.add([b"gone"], filename="a", purpose="user_data", owner="ann", expires_after_s=3600)
    advance(3599.0)
    assert registry.files.remove_expired() == []
    assert registry.files.get(passing.id) == passing
    advance(1.0)
    assert [file.id for file in registry.files.list()] == [kept.id]
    with pytest.raises(NotFound):
        registry.files.get(passing.id)
    assert registry.files.remove_expired() == [passing.id]
    assert len(stored(tmp_path)) == 1


def test_a_job_keeps_the_file_that_it_reads_beyond_its_time(
    registry: Registry, advance: Callable[[float], None], spec: SupervisedSpec
) -> None:
    file = registry.files.add([b"rows"], filename="a", purpose="fine-tune", owner="ann", expires_after_s=3600)
    job = registry.jobs.create(spec.model_copy(update={"training_file": file.id}), "ann")
    advance(3600.0)
    assert registry.files.remove_expired() == []
    assert registry.files.path(registry.files.held(file.id)).read_bytes() == b"rows"
    with pytest.raises(NotFound):
        registry.files.get(file.id)
    registry.jobs.request_cancel(job.id, "ann")
    assert registry.files.remove_expired() == [file.id]
