"""A copy is read whole once, and again after anything in it has changed."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from registry.artifacts import folder_digest
from registry.stores.verified import VerifiedCopies

SIZE = 1 << 20


def later() -> float:
    """Unix seconds at which what was written just now has settled."""
    return time.time() + 60


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder of two files, named by its digest."""
    made = tmp_path / "made"
    (made / "inner").mkdir(parents=True)
    (made / "weights.bin").write_bytes(b"w" * SIZE)
    (made / "inner" / "config.json").write_text("{}")
    (tmp_path / "folders").mkdir()
    return made.rename(tmp_path / "folders" / folder_digest(made))


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "verified"
    folder.mkdir()
    return folder


def bytes_read(copies: VerifiedCopies, path: Path) -> int:
    """Verify the copy, which is intact; return how many bytes this process read for it."""

    def so_far() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    before = so_far()
    assert copies.is_intact(path)
    return so_far() - before


def test_a_copy_is_read_whole_once_by_all_processes(copy: Path, notes: Path) -> None:
    assert bytes_read(VerifiedCopies(notes, later), copy) >= SIZE
    assert bytes_read(VerifiedCopies(notes, later), copy) < SIZE
    VerifiedCopies(notes, later).forget("folders", copy.name)
    assert bytes_read(VerifiedCopies(notes, later), copy) >= SIZE


def test_a_copy_that_was_written_just_now_is_read_again(copy: Path, notes: Path) -> None:
    for _ in range(2):
        assert bytes_read(VerifiedCopies(notes, time.time), copy) >= SIZE


@pytest.mark.parametrize("change", ["bytes", "replaced", "more", "fewer", "gone"])
def test_a_changed_copy_is_not_trusted(copy: Path, notes: Path, change: str) -> None:
    copies = VerifiedCopies(notes, later)
    weights = copy / "weights.bin"
    assert copies.is_intact(copy)
    before = weights.stat()
    match change:
        case "bytes":
            with weights.open("r+b") as file:
                file.write(b"x")
        case "replaced":
            (copy / "other").write_bytes(b"x" * SIZE)
            (copy / "other").rename(weights)
        case "more":
            (copy / "more.py").write_text("")
        case "fewer":
            (copy / "inner" / "config.json").unlink()
        case _:
            shutil.rmtree(copy)
    if weights.exists():  # as a careful forger would
        os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not copies.is_intact(copy)
    assert not copies.is_intact(copy)


def test_a_note_that_cannot_be_read_is_no_note(copy: Path, notes: Path) -> None:
    assert VerifiedCopies(notes, later).is_intact(copy)
    for note in notes.iterdir():
        note.write_text("{")
    assert bytes_read(VerifiedCopies(notes, later), copy) >= SIZE
