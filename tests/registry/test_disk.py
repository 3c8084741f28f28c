"""Whatever the umask was, other users of the machine read nothing of Lorry's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.disk import Liveness, all_beats, keep_files_private, make_private


@pytest.fixture
def open_umask() -> Iterator[None]:
    """A umask that keeps nothing from anybody; the former one comes back."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.usefixtures("open_umask")
def test_a_new_folder_and_new_files_are_the_owners_alone(tmp_path: Path) -> None:
    assert make_private(tmp_path / "deep" / "home")
    assert mode_of(tmp_path / "deep" / "home") == 0o700
    keep_files_private()
    (tmp_path / "file").write_text("")
    assert mode_of(tmp_path / "file") == 0o600


@pytest.mark.usefixtures("open_umask")
def test_an_existing_folder_is_closed(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o755)
    assert make_private(tmp_path / "home")
    assert mode_of(tmp_path / "home") == 0o700


def test_the_beat_of_an_earlier_process_is_forgotten(tmp_path: Path) -> None:
    earlier, later = Liveness(tmp_path, "trainer"), Liveness(tmp_path, "trainer")
    later.forget()
    earlier.beat()
    assert all_beats(tmp_path) == {"trainer": earlier.last_beat()}
    later.forget()
    assert (later.last_beat(), all_beats(tmp_path)) == (0.0, {})
