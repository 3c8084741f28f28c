"""A replica whose node lacks something names the node, the pool and what is not there."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from gateway.errors import StartFailed
from gateway.settings import SettingsSource
from gateway.up.cluster.node_pool import pool_of_node
from registry.database import Registry

TABLES = {
    "pools": [
        {"name": "elsewhere", "base": "/srv/models/on-another-host"},
        {"name": "bare", "kind": "vllm", "base": "BUNDLED"},
        {"name": "small", "base": "BUNDLED"},
    ]
}


@pytest.mark.parametrize(
    ("pool", "lacks"),
    [
        ("elsewhere", "/srv/models/on-another-host: no such folder"),
        ("bare", "`lorry envs install vllm`"),
    ],
)
def test_what_a_node_lacks_is_named_with_the_node(
    sqlite_registry: Registry,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pool: str,
    lacks: str,
) -> None:
    monkeypatch.setenv("LORRY_HOME", str(tmp_path))
    monkeypatch.delenv("LORRY_CONFIG", raising=False)
    pools = [{**each, "base": each["base"].replace("BUNDLED", str(model_folder))} for each in TABLES["pools"]]
    settings = SettingsSource(tables={"engines": {"pools": pools}}).load()
    with pytest.raises(StartFailed, match=rf"pool '{pool}' on the node {socket.gethostname()}: .*{lacks}"):
        pool_of_node(settings, pool, sqlite_registry)
    assert pool_of_node(settings, "small", sqlite_registry).base.path == str(model_folder)
