"""A base model whose name is the id of a hub works wherever a name stands: paths, commands, completion, metrics."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.cli.completion import names
from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.pulled.pulled_model import PulledFile, PulledModel
from registry.pulled.pulled_models import enter_pulled
from registry.types import Base
from tests.gateway.cli.lorry_command import lorry
from tests.gateway.served import ServedGateway
from tests.gateway.stage import report
from tests.hubs.hub_server import COMMIT, LATER

ID = "acme/Tiny.Model"
SECOND = f"{ID}@{LATER[:7]}"


def pulled(commit: str) -> PulledModel:
    files = {"config.json": PulledFile(size_bytes=2, sha256="a" * 64, hub_hash=None)}
    return PulledModel(
        hub="modelscope",
        id=ID,
        commit=commit,
        asked_revision="master",
        pulled_by="ann",
        pulled_at=1.0,
        remote_code=False,
        files=files,
    )


@pytest.fixture
def url(sqlite_registry: Registry, base: Base, tmp_path: Path) -> Iterator[str]:
    """A gateway that knows two commits of one id, the first of which a replica serves."""
    (tmp_path / "second").mkdir()
    for commit, path in ((COMMIT, base.path), (LATER, str(tmp_path / "second"))):
        record = pulled(commit)
        enter_pulled(
            sqlite_registry,
            replace(base, name="", path=path, digest=commit[:1] * 64, provenance=record.as_provenance()),
            record,
        )
    report(sqlite_registry, "r1", base=ID)
    with ServedGateway(GatewaySettings(), sqlite_registry) as served:
        yield f"http://127.0.0.1:{served.port}"


def test_every_command_takes_such_a_name(
    url: str, sqlite_registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    listed = {base["name"]: base for base in json.loads(lorry(url, "models", "list", "--bases", "--json"))}
    assert set(listed) == {ID, SECOND}
    assert listed[ID]["hub"] == {
        "hub": "modelscope",
        "id": ID,
        "commit": COMMIT,
        "asked_revision": "master",
        "pulled_by": "ann",
        "pulled_at": 1.0,
    }
    for name, commit in ((ID, COMMIT), (SECOND, LATER)):
        shown = json.loads(lorry(url, "models", "show", name, "--json"))
        assert (shown["name"], shown["provenance"]["commit"]) == (name, commit)
        assert json.loads(lorry(url, "lineage", f"{ID}@{commit}", "--json"))["node"]["name"] == name
    assert COMMIT in lorry(url, "models", "show", ID)
    monkeypatch.setenv("LORRY_URL", url)
    assert names.bases("acme/") == [ID, SECOND]
    assert "is in use by replica r1" in lorry(url, "models", "remove", ID, code=1)
    assert lorry(url, "models", "remove", SECOND) == f"{SECOND} is deleted\n"
    assert not (tmp_path / "second").exists()
    assert [base.name for base in sqlite_registry.bases.list()] == [ID]


def test_a_tree_and_a_statement_are_printed(url: str) -> None:
    tree = lorry(url, "lineage", SECOND)
    assert f"pulled from modelscope:{ID}@{LATER}" in tree
    assert "by ann" in tree
    statement = json.loads(lorry(url, "lineage", f"{ID}@{COMMIT}", "--format", "in-toto"))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert "--format 'odd' is none of tree, json, in-toto" in lorry(url, "lineage", ID, "--format", "odd", code=1)
