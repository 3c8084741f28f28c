"""The engine computes with a normalised adapter what PEFT computes with the original, for every legal LoRA."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from engines.proving.fingerprint import prove, tolerance_of
from engines.settings import EngineSettings
from registry.publishing.normalize import normalize_adapter
from tests.contract.engine_host import EngineHost
from tests.engines.random_adapter import write_adapter
from tests.trainer.tiny_base import save_base
from tests.trainer_side import TrainerSide
from trainer.errors import JobFailed

pytestmark = pytest.mark.engine

PATTERNS = ("v_proj", r"layers\.0\.self_attn\.(q|k)_proj", "model.layers.1.mlp.down_proj", r".*\.1\..*")


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> TrainerSide:
    """A base so small that an example takes a fraction of a second."""
    folder = tmp_path_factory.mktemp("tiny") / "base"
    save_base(folder)
    return TrainerSide(folder)


@pytest.fixture(scope="module")
def server(trainer: TrainerSide, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineHost]:
    log = tmp_path_factory.mktemp("server") / "engine.log"
    running = EngineHost(EngineSettings(base_path=trainer.folder, base_name="base", log_path=log, max_context=512), {})
    yield running
    running.close()


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 999),
    rank=st.integers(1, 40),
    alpha=st.integers(1, 80),
    rslora=st.booleans(),
    ranks=st.dictionaries(st.sampled_from(PATTERNS), st.integers(1, 40), max_size=2),
    alphas=st.dictionaries(st.sampled_from(PATTERNS), st.floats(0.5, 80), max_size=2),
)
def test_any_legal_adapter_computes_the_same_after_normalising_as_peft_does_before(
    server: EngineHost,
    trainer: TrainerSide,
    tmp_path: Path,
    seed: int,
    rank: int,
    alpha: int,
    rslora: bool,
    ranks: dict[str, int],
    alphas: dict[str, float],
) -> None:
    root, name = tmp_path / uuid4().hex, f"legal-{uuid4().hex[:8]}@1"
    config = {"lora_alpha": alpha, "use_rslora": rslora, "alpha_pattern": alphas}
    raw = write_adapter(root / "raw", trainer.folder, seed, rank=rank, rank_pattern=ranks, strength=0.05, **config)
    normalize_adapter(raw, root / "normal", "base", trainer.folder)
    try:
        trainer.record(raw, root / "normal")
    except JobFailed:
        reject()  # random weights may end every answer at once, and the trainer publishes no such adapter
    server.load(name, root / "normal")
    try:
        url, tolerance = server.engine.base_url, tolerance_of("transformers", "fp32")
        proof = asyncio.run(prove(url, {"model": name}, root / "normal", tolerance))
    finally:
        server.call(server.engine.unload_adapter(name))
    assert proof.passed, proof.message
    assert proof.mean_difference < 1e-3
