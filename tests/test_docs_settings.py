"""`docs/lorry.toml` has every setting with its default, and nothing else."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from engines.settings import EngineSettings
from gateway.engines_settings import OnePoolSettings, PoolSettings
from gateway.models_settings import ModelsSettings
from gateway.settings import GatewaySettings, TraceSettings, WebhookSettings, load_settings
from registry.settings import RegistrySettings
from tests.pages import ROOT
from trainer.settings import TrainerSettings, trainer_settings

FILE: Final = ROOT / "docs" / "lorry.toml"
CLASSES: Final[Mapping[str, type[BaseModel]]] = {
    "registry": RegistrySettings,
    "gateway": GatewaySettings,
    "engines": OnePoolSettings,
    "engines.engine": EngineSettings,
    "engines.pools": PoolSettings,
    "trainer": TrainerSettings,
    "webhooks": WebhookSettings,
    "traces": TraceSettings,
    "models": ModelsSettings,
}
"""Each table of the file, and the class of its settings."""
FILLED_IN: Final = {"kind", "base_path", "base_name", "log_path"}
"""Settings of an engine that Lorry fills in, so that the file has no line for them."""
ELSEWHERE: Final = {"engines": {"engine"}, "engines.engine": FILLED_IN}

OFF_WITH_A_DEFAULT: Final = {
    *(("engines", "kind"), ("trainer", "gateway_url"), ("registry", "artifact_cache")),
    *(("gateway", "resources"), ("engines", "resources"), ("engines", "labels"), ("engines", "nodes")),
}
"""Their defaults depend on the machine, on LORRY_HOME and on how the trainer is started, or are what no pool needs."""
NEEDS: Final[Mapping[str, dict[str, Any]]] = {
    "accelerator_type": {"gpus": 1},
    "nodes": {"kind": "vllm", "gpus": 1, "engine": {"pipeline_parallel": 2}},
    "sleep_after_s": {"min_replicas": 0},
}
"""Settings that have no meaning without another one."""


def entries() -> Iterator[tuple[str, str, Any, bool]]:
    """Yield table, name and value of each setting in the file, and whether it is on."""
    table = ""
    for line in FILE.read_text().splitlines():
        is_on, text = not line.startswith("#"), line.removeprefix("#")
        if not text or text.startswith(" "):
            continue
        if text.startswith("["):
            table = text.strip("[]")
            continue
        ((name, value),) = tomllib.loads(text).items()
        yield table, name, value, is_on


def test_the_file_as_it_stands_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LORRY_CONFIG", raising=False)
    plain = load_settings()
    monkeypatch.setenv("LORRY_CONFIG", str(FILE))
    assert load_settings() == plain
    assert [pool.model_fields_set for pool in load_settings().engines.pools] == [{"name", "min_replicas"}]
    tables = tomllib.loads(FILE.read_text())
    assert trainer_settings(tables, plain.home) == trainer_settings({}, plain.home)


@pytest.mark.parametrize("table", CLASSES)
def test_no_setting_is_missing_and_none_is_stale(table: str) -> None:
    listed = [name for of, name, _, _ in entries() if of == table]
    assert sorted(listed) == sorted(CLASSES[table].model_fields.keys() - ELSEWHERE.get(table, set()))


def test_settings_that_are_on_have_their_defaults() -> None:
    for table, name, value, is_on in entries():
        field = CLASSES[table].model_fields[name]
        default = field.get_default(call_default_factory=True)
        if is_on:
            assert str(value).lower() == str(list(default) if isinstance(default, tuple) else default).lower(), name
        elif default not in (None, PydanticUndefined):
            assert (table, name) in OFF_WITH_A_DEFAULT or table in ("engines.engine", "engines.pools")


@pytest.mark.parametrize("table", CLASSES)
def test_every_example_of_a_setting_that_is_off_is_taken(table: str) -> None:
    required = {
        "registry": {"url": "sqlite:////r.db", "artifacts": "/a"},
        "engines.engine": {"base_path": "/m", "base_name": "m", "log_path": "/l"},
        "engines.pools": {"name": "small"},
        "trainer": {"work": "/w"},
    }
    for of, name, value, _ in entries():
        if of == table:
            CLASSES[table].model_validate(required.get(table, {}) | NEEDS.get(name, {}) | {name: value})
