"""A checkpoint is tried on kinds of engines on this machine, and what became of it is in its provenance."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import LlamaConfig

from engines.proving.load_test import Outcome
from gateway.pools.load_tests import load_tests
from gateway.settings import Settings
from registry.database import Registry
from registry.errors import Conflict
from registry.settings import RegistrySettings
from registry.types import Base
from tests.engines.quantized_folder import quantize_folder
from tests.engines.transformers.test_model import SIZES, small_model
from tests.gateway.pools.test_pools import settings_with


def entered(registry: Registry, name: str, folder: Path, parent: str | None) -> None:
    """Enter a folder as a base model, or as a checkpoint of *parent*."""
    base = Base(name=name, path=str(folder), digest=name, licence="mit", created_at=1.0)
    made = base if parent is None else replace(base, parent=parent, provenance={"quantization": {"scheme": "int8"}})
    registry.bases.enter(made)


@pytest.fixture
def settings(tmp_path: Path, sqlite_settings: RegistrySettings) -> Settings:
    return settings_with(tmp_path / "home", sqlite_settings, {"name": "a", "kind": "transformers"})


def test_what_no_job_made_is_not_tried(sqlite_registry: Registry, settings: Settings, tmp_path: Path) -> None:
    entered(sqlite_registry, "tiny", tmp_path, None)
    with pytest.raises(Conflict, match="'tiny' is not a checkpoint"):
        list(load_tests(sqlite_registry, settings, "tiny", []))


@pytest.mark.engine
def test_a_checkpoint_is_compared_where_it_is_served_and_refused_by_name_elsewhere(
    sqlite_registry: Registry, settings: Settings, model_folder: Path, tmp_path: Path
) -> None:
    full = small_model(tmp_path / "full", LlamaConfig(**SIZES), model_folder)
    shutil.copy(model_folder / "chat_template.jinja", full)
    quantize_folder(full, tmp_path / "eight", "w8a8-int8", tmp_path / "meant")
    entered(sqlite_registry, "tiny", full, None)
    entered(sqlite_registry, "tiny-w8a8-1", tmp_path / "eight", "tiny")
    served, refused = load_tests(sqlite_registry, settings, "tiny-w8a8-1", ["transformers", "sglang"])
    assert served.outcome is Outcome.SERVED, served.reason
    assert served.same_beginnings is not None
    assert 0 < served.same_beginnings <= served.prompts
    assert refused.outcome is Outcome.NOT_INSTALLED
    assert "lorry envs install sglang" in refused.reason
    kept = sqlite_registry.bases.get("tiny-w8a8-1").provenance
    assert kept["quantization"] == {"scheme": "int8"}
    assert {kind: found["outcome"] for kind, found in kept["load_tests"].items()} == {
        "transformers": "served",
        "sglang": "not_installed",
    }
