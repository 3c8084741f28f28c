"""Exports to both hubs by their own clients, into a server that speaks their protocols."""

from __future__ import annotations

import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.exports.conftest import Exhibit
from tests.exports.upload_hub import TOKEN, UploadHub
from tests.gateway.cli.lorry_command import COMMAND, environment
from tests.hubs.hub_server import HubModel

pytestmark = pytest.mark.trains

HUBS = {"hf": "HF_TOKEN", "modelscope": "MODELSCOPE_API_TOKEN"}


@pytest.fixture
def hub() -> Iterator[UploadHub]:
    server = UploadHub()
    yield server
    server.close()


def export(
    exhibit: Exhibit, hub: UploadHub, home: Path, *words: str, token: str = TOKEN
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own: both clients read their variables when they are imported."""
    variables = {**hub.environment(home), **dict.fromkeys(HUBS.values(), token)}
    command = [*COMMAND, "export", *words, "--no-check"]
    return subprocess.run(
        command, env=environment(exhibit.url, **variables), capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize("name", HUBS)
def test_an_upload_is_private_and_what_is_downloaded_is_what_was_sent(
    exhibit: Exhibit, hub: UploadHub, name: str, tmp_path: Path
) -> None:
    run = export(exhibit, hub, tmp_path, "support@1", "--to", f"{name}:acme/support", "--base-model", "acme/tiny")
    assert run.returncode == 0, run.stderr
    assert hub.private == {"acme/support": True}
    model = hub.models["acme/support"]
    (branch, commit), *_ = model.branches.items()
    assert branch == {"hf": "main", "modelscope": "master"}[name]
    assert commit in run.stdout
    assert sorted(model.commits[commit]) == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    for path in ("adapter_config.json", "adapter_model.safetensors"):
        address = f"{hub.url}/acme/support/resolve/{commit}/{path}"
        with urllib.request.urlopen(address) as answer:
            assert answer.read() == (exhibit.artifact / path).read_bytes()
    card = model.commits[commit]["README.md"].decode()
    assert card.startswith("---\n")
    assert 'base_model: "acme/tiny"' in card
    entry = exhibit.registry.audit.list(limit=1)[0]
    assert (entry.action, entry.subject) == ("model.upload", "support@1")
    assert (entry.detail["target"], entry.detail["commit"]) == (f"{name}:acme/support", commit)


@pytest.mark.parametrize("name", HUBS)
def test_a_wrong_token_and_a_repository_that_is_public_already_are_refused(
    exhibit: Exhibit, hub: UploadHub, name: str, tmp_path: Path
) -> None:
    words = ("support@1", "--to", f"{name}:acme/open")
    run = export(exhibit, hub, tmp_path, *words, token="of-nobody")
    assert run.returncode == 1
    assert f"{name}:acme/open: " in run.stderr
    assert "of-nobody" not in run.stderr
    assert "Traceback" not in run.stderr
    hub.models["acme/open"], hub.private["acme/open"] = HubModel(commits={}, branches={}), False
    run = export(exhibit, hub, tmp_path, *words)
    assert f"{name}:acme/open is public; give --public" in " ".join(run.stderr.split())
    assert hub.models["acme/open"].commits == {}


@pytest.mark.parametrize("name", HUBS)
def test_an_upload_of_which_the_hub_lost_a_file_fails(
    exhibit: Exhibit, hub: UploadHub, name: str, tmp_path: Path
) -> None:
    hub.loses_a_file = True
    run = export(exhibit, hub, tmp_path, "support@1", "--to", f"{name}:acme/support", "--revision", "next")
    assert run.returncode == 1
    assert "is not there with the bytes that were sent" in " ".join(run.stderr.split())
    assert "next" in hub.models["acme/support"].branches
    assert [entry.action for entry in exhibit.registry.audit.list(limit=1)] == ["model.download"]
