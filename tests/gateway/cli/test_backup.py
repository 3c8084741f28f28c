"""`lorry backup` and `lorry restore`, typed at a home."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from gateway.cli import main
from registry.database import open_registry
from registry.settings import RegistrySettings


@pytest.fixture
def home(tmp_path: Path, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `LORRY_HOME` with a key in it, which the commands work on."""
    folder = tmp_path / "home"
    folder.mkdir()
    shutil.copy(sqlite_template, folder / "registry.db")
    monkeypatch.setenv("LORRY_HOME", str(folder))
    monkeypatch.delenv("LORRY_CONFIG", raising=False)
    assert exit_code("keys", "create", "--home", "--name", "ann", "--json") == 0
    return folder


def exit_code(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    code = ended.value.code
    assert isinstance(code, int)
    return code


@pytest.mark.long
def test_a_home_comes_back_in_an_empty_one(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    backup = str(tmp_path / "backup")
    assert exit_code("backup", backup, "--json") == 0
    taken = json.loads(capsys.readouterr().out)
    assert (taken["artifacts"], taken["lost"]) == (0, [])
    monkeypatch.setenv("LORRY_HOME", str(tmp_path / "other"))
    assert exit_code("restore", backup) == 0
    shown = capsys.readouterr()
    assert f"Restored {taken['rows']} rows" in shown.err
    settings = RegistrySettings(
        url=f"sqlite:///{tmp_path / 'other' / 'registry.db'}", artifacts=tmp_path / "other" / "a"
    )
    registry = open_registry(settings)
    assert [key.name for key in registry.keys.list()] == ["ann"]
    registry.close()
    assert exit_code("restore", backup) == 1
    assert "is not empty" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize("place", [".", "artifacts", "artifacts/files"])
def test_a_backup_does_not_lie_in_what_it_copies(home: Path, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("backup", str(home / place)) == 1
    assert "where the registry itself is" in capsys.readouterr().err.replace("\n", " ")


def test_a_home_without_a_registry_has_nothing_to_back_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LORRY_HOME", str(tmp_path / "empty"))
    assert exit_code("backup", str(tmp_path / "backup")) == 1
    assert "nothing to back up" in capsys.readouterr().err.replace("\n", " ")
    assert list((tmp_path / "empty").glob("*")) == []
