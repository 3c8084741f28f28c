"""Builders of Serve applications: settings that suit one machine alone are refused with what to set."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from engines.errors import SettingRefused
from gateway.errors import StartFailed
from registry.errors import SettingsInvalid

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # those of Ray Serve, when it is imported
    from gateway.up.builders import controller_app, engines_app, gateway_app

POSTGRES = "postgresql+psycopg://lorry:secret@127.0.0.1:1/lorry"
TABLES = """
[registry]
artifacts = "/srv/artifacts"

[gateway]
host = "0.0.0.0"

[[engines.pools]]
name = "small"

[[engines.pools]]
name = "large"
"""


@pytest.fixture
def args(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("LORRY_HOME", str(tmp_path))
    monkeypatch.setenv("LORRY_REGISTRY", POSTGRES)
    monkeypatch.setenv("LORRY_CLUSTER_SECRET", "s" * 32)
    return {"config": write(tmp_path, TABLES)}


def write(folder: Path, tables: str) -> str:
    (folder / "lorry.toml").write_text(tables)
    return str(folder / "lorry.toml")


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ('artifacts = "/srv/artifacts"', "artifacts is not set"),
        ('host = "0.0.0.0"', "host is 127.0.0.1, where no other machine"),
    ],
)
def test_a_setting_that_one_machine_may_leave_out_is_asked_for(
    args: dict[str, Any], tmp_path: Path, line: str, wrong: str
) -> None:
    args["config"] = write(tmp_path, TABLES.replace(line, ""))
    for build in (gateway_app, controller_app, engines_app):
        with pytest.raises(StartFailed, match=wrong):
            build(args)


def test_a_registry_that_other_hosts_do_not_reach_is_refused(
    args: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LORRY_REGISTRY")
    with pytest.raises(StartFailed, match=r"url is sqlite: set LORRY_REGISTRY=postgresql\+psycopg://"):
        gateway_app(args)


def test_engines_that_other_hosts_reach_without_a_secret_are_refused(
    args: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LORRY_CLUSTER_SECRET")
    for build in (gateway_app, controller_app, engines_app):
        with pytest.raises(StartFailed, match=r"needs a secret .*: set LORRY_CLUSTER_SECRET, alike"):
            build(args)
    monkeypatch.setenv("LORRY_CLUSTER_SECRET", "short")
    with pytest.raises(SettingRefused, match="LORRY_CLUSTER_SECRET must have at least 32 characters"):
        engines_app(args)


def test_devices_that_all_replicas_of_a_node_would_share_are_refused(args: dict[str, Any], tmp_path: Path) -> None:
    shared = TABLES + 'kind = "vllm"\nengine = { hardware = "nvidia" }\n'
    args["config"] = write(tmp_path, shared)
    with pytest.raises(StartFailed, match="pool 'large' computes on nvidia and gpus is not set"):
        engines_app(args)


def test_args_are_refused_by_the_name_of_what_is_wrong(args: dict[str, Any]) -> None:
    with pytest.raises(StartFailed, match=r"args of the application: .*pol.*did you mean 'pool'"):
        engines_app(args | {"pol": "small"})
    with pytest.raises(StartFailed, match="args of the application: config"):
        controller_app({})
    with pytest.raises(SettingsInvalid, match="No such file"):
        gateway_app({"config": "/nowhere/lorry.toml"})
