"""The bundled model in int8: adapters of the full model pass their proofs there, and wrong ones do not."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.catalog import adapter_fields
from engines.errors import SettingRefused
from engines.proving.fingerprint import Proof, prove, tolerance_of
from engines.settings import EngineSettings
from tests.contract.engine_host import BASE, EngineHost
from tests.contract.kinds import CASES, FOREIGN, interpreter_of
from tests.contract.published import published
from tests.engines.quantized_folder import quantize_folder


@pytest.fixture(scope="module")
def eight_bits(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model with weights and activations in int8, as llm-compressor would round it."""
    root = tmp_path_factory.mktemp("eight-bits")
    quantize_folder(model_folder, root / "w8a8", "w8a8-int8", root / "meant")
    shutil.rmtree(root / "meant")
    return root / "w8a8"


def settings_of(kind: str, folder: Path, logs: Path, places: int = 4) -> EngineSettings:
    return EngineSettings(
        kind=kind,
        interpreter=interpreter_of(kind),
        base_path=folder,
        base_name=BASE,
        log_path=logs / "engine.log",
        max_context=512,
        max_rank=32,
        max_adapters=places,
    )


@pytest.fixture(scope="module", params=[CASES["transformers"]])
def server(
    request: pytest.FixtureRequest, eight_bits: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EngineHost]:
    """A server of a kind that serves the scheme on a CPU."""
    running = EngineHost(settings_of(request.param, eight_bits, tmp_path_factory.mktemp("logs")), {})
    yield running
    running.close()


@pytest.fixture(scope="module")
def adapters(server: EngineHost, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of adapters of the full model, loaded: a good one, another one, and the good one at half its scaling."""
    root = tmp_path_factory.mktemp("adapters")
    for name, source in (("good@1", "good@1"), ("legal1@1", "legal1@1"), ("half@1", "good@1")):
        shutil.copytree(published(model_folder) / source, root / name)
    settings = json.loads((root / "half@1" / "adapter_config.json").read_text())
    settings["lora_alpha"] = settings["lora_alpha"] / 2
    (root / "half@1" / "adapter_config.json").write_text(json.dumps(settings))
    for folder in root.iterdir():
        server.load(folder.name, folder)
    return root


def proof_of(server: EngineHost, name: str, folder: Path) -> Proof:
    fields = {"model": BASE} if name == BASE else adapter_fields(server.kind, name)
    return asyncio.run(prove(server.engine.base_url, fields, folder, tolerance_of(server.kind, "int8")))


def test_the_base_answers(server: EngineHost) -> None:
    assert "Paris" in server.chat()["choices"][0]["message"]["content"]


@pytest.mark.vllm
def test_vllm_has_no_adapters_on_int8_on_a_cpu(eight_bits: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingRefused, match=r"max_adapters = 4 with w8a8-int8 weights .*, only 0: with LoRA"):
        EngineHost(settings_of("vllm", eight_bits, tmp_path), {})


def test_an_adapter_of_the_full_model_passes_on_the_quantized_one(server: EngineHost, adapters: Path) -> None:
    proof = proof_of(server, "good@1", adapters / "good@1")
    assert proof.passed, proof.message
    # More than rounding of floats, so that it was the quantized model that answered.
    assert proof.mean_difference > 1e-3


@pytest.mark.parametrize("wrong", [BASE, "legal1@1", "half@1"])
def test_a_wrong_adapter_fails_on_the_quantized_model_too(server: EngineHost, adapters: Path, wrong: str) -> None:
    proof = proof_of(server, wrong, adapters / "good@1")
    assert not proof.passed, proof.message


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_scheme_that_a_kind_does_not_serve_is_refused_before_anything_starts(
    kind: str, model_folder: Path, tmp_path: Path
) -> None:
    quantize_folder(model_folder, tmp_path / "w4a16", "w4a16", tmp_path / "meant")
    with pytest.raises(
        SettingRefused, match=rf"base: {kind} on a CPU does not serve w4a16 .*; transformers would serve"
    ):
        EngineHost(settings_of(kind, tmp_path / "w4a16", tmp_path), {})
