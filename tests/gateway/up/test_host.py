"""`lorry up` refuses what cannot work, with a remedy in the message, and loses no state."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

pytestmark = pytest.mark.long


def up(home: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from gateway.cli import main; main()", "up", *flags]
    environment = os.environ | {"LORRY_HOME": str(home), "COLUMNS": "300"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)


def refused(home: Path, *flags: str) -> str:
    told = up(home, *flags)
    assert told.returncode == 1, told.stderr
    assert "Traceback" not in told.stderr
    return told.stderr


def test_a_port_in_use_is_named_with_another_to_try(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(tmp_path / "home", "--port", str(port))
    assert said.splitlines()[0].endswith(" s  Starting Lorry"), "the first line comes before all others"
    assert f"port {port}" in said
    assert f"--port {port + 1}" in said


def test_an_address_that_others_reach_is_refused_until_there_is_a_key(tmp_path: Path) -> None:
    said = refused(tmp_path / "home", "--host", "0.0.0.0", "--port", free_port())
    assert "host is 0.0.0.0; make the first key with `lorry keys create --home --name NAME`" in said
    assert "must be an IP address" in refused(tmp_path / "home", "--host", "everywhere")


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert "LORRY_HOME" in refused(tmp_path / "file" / "home", "--port", free_port())


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([], "no config.json"),
        (["config.json"], "no tokenizer_config.json"),
        (["config.json", "tokenizer_config.json"], "no weights"),
        (["config.json", "tokenizer_config.json", "pytorch_model.bin"], "is a pickle"),
    ],
)
def test_a_model_folder_that_lacks_something_is_refused_naming_it(tmp_path: Path, files: list[str], said: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in files:
        (folder / name).write_text("{}")
    assert said in refused(tmp_path / "home", "--port", free_port(), "--model", str(folder))


def test_a_registry_of_a_newer_lorry_is_left_as_it_is(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", whole_model(tmp_path)
    home.mkdir()
    engine = sa.create_engine(f"sqlite:///{home / 'registry.db'}")
    with engine.begin() as tx:
        tx.execute(sa.text("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)"))
        tx.execute(sa.text("INSERT INTO alembic_version VALUES ('9999_future')"))
        tx.execute(sa.text("CREATE TABLE adapters (name TEXT)"))
        tx.execute(sa.text("CREATE TABLE revisions (id TEXT)"))
    engine.dispose()
    before = (home / "registry.db").read_bytes()
    assert "9999_future" in refused(home, "--port", free_port(), "--model", str(folder))
    assert (home / "registry.db").read_bytes()[100:] == before[100:]  # the header tells the journal's mode


def test_a_misspelt_setting_is_answered_with_those_there_are(tmp_path: Path) -> None:
    config = tmp_path / "lorry.toml"
    config.write_text("[gateway]\nprot = 1\n")
    os.environ["LORRY_CONFIG"] = str(config)
    try:
        said = refused(tmp_path / "home")
    finally:
        del os.environ["LORRY_CONFIG"]
    assert "prot" in said
    assert "port" in said


def test_webhooks_without_a_secret_are_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "lorry.toml"
    config.write_text('[webhooks]\nurl = "https://example.com/hook"\n')
    monkeypatch.setenv("LORRY_CONFIG", str(config))
    monkeypatch.delenv("LORRY_WEBHOOK_SECRET", raising=False)
    assert "export LORRY_WEBHOOK_SECRET=whsec_" in refused(tmp_path / "home", "--port", free_port())


def test_an_engine_that_does_not_exist_is_answered_with_those_that_do(tmp_path: Path) -> None:
    said = refused(
        tmp_path / "home", "--port", free_port(), "--model", str(whole_model(tmp_path)), "--engine", "abacus"
    )
    assert "abacus" in said
    assert "transformers" in said


def whole_model(tmp_path: Path) -> Path:
    """A folder that looks like a model from outside."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return str(probe.getsockname()[1])
