"""`lorry keys` prints only the secret on stdout, has messages with a remedy, and lets a locked-out owner back in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from registry.database import open_registry
from registry.settings import RegistrySettings
from tests.gateway.cli.lorry_command import lorry, run_lorry

NOWHERE = "http://127.0.0.1:1"


@pytest.mark.long
def test_keys_are_made_listed_and_revoked(url: str) -> None:
    assert "No keys: everybody on this machine may do everything" in run_lorry("keys", "list", LORRY_URL=url)[1]
    root = lorry(url, "keys", "create", "--name", "root").strip()
    assert root.startswith("sk-lorry-")
    assert "LORRY_API_KEY" in lorry(url, "keys", "list", code=1)
    assert "lorry keys create --home" in lorry(url, "adapters", "list", code=1, LORRY_API_KEY="sk-lorry-other")

    limits = ["--requests-per-minute", "60", "--tokens-per-minute", "10000", "--concurrent", "4"]
    words = ["create", "--name", "chat", "--models", "support, tiny", "--owner", "ann", "--priority", "low", *limits]
    made = json.loads(lorry(url, "keys", *words, "--json", LORRY_API_KEY=root))
    assert (made["name"], made["scopes"], made["models"]) == ("chat", ["inference"], ["support", "tiny"])
    listed = lorry(url, "keys", "list", LORRY_API_KEY=root)
    for told in ("60rpm,10000tpm,4conc", "support,tiny", f"...{made['key'][-4:]}", "low", "ann"):
        assert told in listed
    assert made["key"] not in listed
    assert "lacks the scope admin; it has inference" in lorry(url, "keys", "list", code=1, LORRY_API_KEY=made["key"])

    assert "chat is revoked" in lorry(url, "keys", "revoke", "chat", LORRY_API_KEY=root)
    assert "chat" not in lorry(url, "keys", "list", LORRY_API_KEY=root)
    assert "chat" in lorry(url, "keys", "list", "--all", LORRY_API_KEY=root)
    assert "last one with the scope admin" in lorry(url, "keys", "revoke", "root", code=1, LORRY_API_KEY=root)
    assert "there is no valid key 'chat'; there are: root" in lorry(
        url, "keys", "revoke", "chat", code=1, LORRY_API_KEY=root
    )
    assert "key.revoke" in lorry(url, "audit", LORRY_API_KEY=root)


@pytest.mark.long
def test_at_home_keys_are_made_without_a_gateway(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    made = json.loads(lorry(NOWHERE, "keys", "create", "--home", "--name", "root", "--json", LORRY_HOME=home))
    assert made["scopes"] == ["admin", "inference", "metrics", "training"]
    again = json.loads(lorry(NOWHERE, "keys", "create", "--home", "--name", "chat", "--json", LORRY_HOME=home))
    assert again["scopes"] == ["inference"]
    assert "root" in lorry(NOWHERE, "keys", "list", "--home", LORRY_HOME=home)
    assert "chat is revoked" in lorry(NOWHERE, "keys", "revoke", "--home", "chat", LORRY_HOME=home)
    for words, said in (
        (["revoke", "--home", "chat"], "there is no valid key 'chat'; there are: root"),
        (["create", "--home", "--name", "root"], "named 'root' already"),
        (["create", "--home", "--name", "a b"], "--name: must be at most 64 letters"),
        (
            ["create", "--home", "--name", "x", "--scopes", "all"],
            "--scopes: must be inference, training, metrics or admin, not",
        ),
    ):
        assert said in lorry(NOWHERE, "keys", *words, code=1, LORRY_HOME=home)
    settings = RegistrySettings(url=f"sqlite:///{home}/registry.db", artifacts=tmp_path / "artifacts")
    registry = open_registry(settings)
    assert [(key.name, key.revoked_at is None) for key in registry.keys.list()] == [("chat", False), ("root", True)]
    registry.close()
