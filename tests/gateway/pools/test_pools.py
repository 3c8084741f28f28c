"""The settings of pools become the settings of their replicas."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from engines.catalog import build_engine
from engines.errors import SettingRefused, UnknownEngine
from engines.hardware.machine import Machine
from engines.kinds import Hardware, Precision
from engines.settings import EngineSettings
from gateway.engines_settings import BUNDLED_ENCODER, PoolSettings, engines_settings
from gateway.errors import StartFailed
from gateway.pools.pools import check_quantized_of, engine_settings, engine_source, precision_of, prepare_pools
from gateway.settings import GatewaySettings, Settings, TraceSettings, WebhookSettings
from registry.database import Registry
from registry.errors import SettingsInvalid
from registry.publishing.checkpoints import publish_checkpoint
from registry.settings import RegistrySettings
from registry.types import Base, CheckpointDraft
from tests.engines.hardware.machines import MACHINES

TRANSFORMERS: dict[str, object] = {"name": "a", "kind": "transformers"}


class Desk:
    """A machine without accelerators; its bundled model is *folder*."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def bundled_folder(self) -> Path:
        return self._folder

    def read_machine(self) -> Machine:
        return MACHINES["CPU"]

    def explain(self, reason: str) -> None:
        raise AssertionError(f"nothing is chosen on a CPU, but: {reason}")


def settings_with(home: Path, registry: RegistrySettings, *pools: dict[str, object]) -> Settings:
    engines = engines_settings({"pools": list(pools)}, {})
    return Settings(
        home=home,
        registry=registry,
        gateway=GatewaySettings(),
        engines=engines,
        webhooks=WebhookSettings(),
        traces=TraceSettings(),
    )


@pytest.fixture
def other_folder(tmp_path: Path) -> Path:
    """Another base model."""
    folder = tmp_path / "Large Model"
    folder.mkdir()
    for name in ("config.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_bytes(b"other weights")
    return folder


def test_each_pool_has_its_base_model_in_the_registry(
    tmp_path: Path, sqlite_registry: Registry, sqlite_settings: RegistrySettings, base_folder: Path, other_folder: Path
) -> None:
    settings = settings_with(
        tmp_path, sqlite_settings, TRANSFORMERS, {"name": "b", "base": str(other_folder)}, TRANSFORMERS | {"name": "c"}
    )
    pools = prepare_pools(settings, sqlite_registry, Desk(base_folder))
    assert [(pool.settings.name, pool.base.name) for pool in pools] == [
        ("a", "smollm2-135m-instruct"),
        ("b", "large-model"),
        ("c", "smollm2-135m-instruct"),
    ]
    assert [base.name for base in sqlite_registry.bases.list()] == ["large-model", "smollm2-135m-instruct"]
    assert pools[1].engine.base_path == other_folder


@pytest.mark.parametrize(
    ("pool", "error", "said"),
    [
        ({"kind": "ollama"}, UnknownEngine, "'ollama' is not one of"),
        ({"engine": {"thread": 1}}, StartFailed, r"\[engines.engine\] unknown setting thread; did you mean 'threads'"),
        ({"engine": {"tensor_parallel": 2}}, SettingRefused, "tensor_parallel"),
        ({"engine": {"port": 9000}, "min_replicas": 2}, StartFailed, "port: pool 'a' has several engines at a time"),
        ({"base": "/nowhere"}, StartFailed, "no such folder"),
        (
            {"kind": "vllm", "nodes": 2, "resources": {"NPU": 1}, "engine": {"pipeline_parallel": 2}},
            StartFailed,
            "pool 'a' has nodes = 2, and this is one machine: `lorry up --ray-address`",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_started(
    tmp_path: Path,
    sqlite_registry: Registry,
    sqlite_settings: RegistrySettings,
    base_folder: Path,
    pool: dict[str, object],
    error: type[Exception],
    said: str,
) -> None:
    settings = settings_with(tmp_path, sqlite_settings, TRANSFORMERS | pool)
    with pytest.raises(error, match=said):
        prepare_pools(settings, sqlite_registry, Desk(base_folder))


def test_the_bundled_encoder_is_served_by_its_name_alone(
    tmp_path: Path, sqlite_registry: Registry, sqlite_settings: RegistrySettings, encoder_folder: Path
) -> None:
    settings = settings_with(tmp_path, sqlite_settings, TRANSFORMERS | {"base": BUNDLED_ENCODER})
    [pool] = prepare_pools(settings, sqlite_registry, Desk(tmp_path / "none"))
    assert (pool.base.name, pool.engine.base_name) == (BUNDLED_ENCODER, BUNDLED_ENCODER)
    assert (pool.engine.base_path, pool.engine.max_adapters) == (encoder_folder, 0)


def test_a_model_that_embeds_has_no_adapters_and_needs_no_setting_for_that(tmp_path: Path, base: Base) -> None:
    (Path(base.path) / "config.json").write_text('{"model_type": "bert"}')
    own = engine_settings(PoolSettings(name="a", kind="transformers"), tmp_path, base)
    assert own.max_adapters == 0
    build_engine(own)
    asked = engine_settings(PoolSettings(name="a", kind="transformers", engine={"max_adapters": 4}), tmp_path, base)
    with pytest.raises(SettingRefused, match="max_adapters = 4, only 0: tiny is a model to embed texts"):
        build_engine(asked)


def test_a_fixed_port_is_for_one_engine_at_a_time(tmp_path: Path, base: Base) -> None:
    one = PoolSettings(name="a", kind="transformers", engine={"port": 9000})
    assert engine_settings(one, tmp_path, base).port == 9000
    replaced = PoolSettings(name="a", kind="lmdeploy", engine={"port": 9000, "interpreter": "/bin/python"})
    with pytest.raises(StartFailed, match="port"):
        engine_settings(replaced, tmp_path, base)
    assert not engine_source(one_without_port(replaced, tmp_path, base)).live_adapters


def one_without_port(pool: PoolSettings, home: Path, base: Base) -> EngineSettings:
    return engine_settings(pool.model_copy(update={"engine": {"interpreter": "/bin/python"}}), home, base)


@pytest.mark.parametrize(
    ("fields", "config", "expected"),
    [
        ({}, {"dtype": "bfloat16"}, "fp32"),
        ({"hardware": Hardware.NVIDIA}, {"dtype": "float16"}, "fp16"),
        ({"hardware": Hardware.NVIDIA}, {"torch_dtype": "bfloat16"}, "bf16"),
        ({"hardware": Hardware.NVIDIA}, {}, "bf16"),
        ({"hardware": Hardware.NVIDIA, "precision": Precision.FP8}, {"dtype": "float32"}, "fp8"),
    ],
)
def test_proofs_are_held_to_the_precision_that_the_engine_computes_in(
    tmp_path: Path, fields: dict[str, object], config: dict[str, str], expected: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    known = {"kind": "vllm", "base_path": tmp_path, "base_name": "tiny", "log_path": tmp_path / "log"}
    assert precision_of(EngineSettings.model_validate(known | fields)) == expected


def test_a_pool_serves_a_checkpoint_by_its_name(
    tmp_path: Path, sqlite_settings: RegistrySettings, sqlite_registry: Registry, base: Base, other_folder: Path
) -> None:
    folder = tmp_path / "trained"
    shutil.copytree(base.path, folder)
    (folder / "tokenizer_config.json").write_text("{}")
    weights = load_file(folder / "model.safetensors")
    save_file({name: one + 1 for name, one in weights.items()}, folder / "model.safetensors")
    sqlite_registry.bases.enter(base)
    draft = CheckpointDraft(series="support", parent="tiny", owner="ann", tenant="red", is_shared=False)
    made = publish_checkpoint(sqlite_registry, folder, draft)
    asked = settings_with(tmp_path, sqlite_settings, TRANSFORMERS | {"checkpoint": "support-1"})
    (pool,) = prepare_pools(asked, sqlite_registry, Desk(other_folder))
    assert pool.base == made
    assert (pool.engine.base_name, pool.engine.base_path) == ("support-1", Path(made.path))
    missing = settings_with(tmp_path, sqlite_settings, TRANSFORMERS | {"checkpoint": "tiny"})
    with pytest.raises(StartFailed, match="there is no checkpoint 'tiny'; there are: support-1"):
        prepare_pools(missing, sqlite_registry, Desk(other_folder))
    damaged = Path(made.path) / "config.json"
    damaged.chmod(0o600)
    damaged.write_text("{}")
    with pytest.raises(StartFailed, match="no longer matches its digest"):
        prepare_pools(asked, sqlite_registry, Desk(other_folder))
    with pytest.raises(SettingsInvalid, match="give base or checkpoint, not both"):
        settings_with(tmp_path, sqlite_settings, TRANSFORMERS | {"checkpoint": "support-1", "base": str(tmp_path)})


def test_only_a_checkpoint_that_was_quantized_from_a_base_serves_its_adapters() -> None:
    plain = Base(name="tiny-q-1", path="/q", digest="q", licence="mit", created_at=1.0)
    quantized = replace(plain, parent="tiny", provenance={"quantization": {"scheme": "w8a8-int8"}})
    check_quantized_of("tiny", quantized)
    check_quantized_of(None, plain)
    for base, why in (
        (plain, "it is not a checkpoint"),
        (replace(quantized, parent="huge"), "it was made from 'huge'"),
        (replace(quantized, provenance={}), "it is not quantized"),
        (replace(quantized, provenance={**quantized.provenance, "adapter": {"name": "a@1"}}), "an adapter is merged"),
    ):
        with pytest.raises(StartFailed, match=f"serves_adapters_of: 'tiny-q-1' cannot .* of 'tiny': {why}"):
            check_quantized_of("tiny", base)
