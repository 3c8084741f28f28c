"""Every engine proves a good adapter, and each of the faults that have been seen in the field fails with numbers."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import PeftModel
from safetensors.torch import load_file, save_file

from engines.errors import EngineUnavailable, FingerprintMissing
from engines.fingerprint import prove
from engines.proof import Proof, tolerance_of
from engines.settings import EngineSettings
from registry.fingerprint import write_fingerprint
from registry.normalize import normalize_adapter
from tests.contract.engine_host import EngineHost
from tests.engines.random_adapter import layer_shapes, write_adapter
from trainer.dataset import ChatEncoder
from trainer.probes import ProbePrompts, neutral_prompts
from trainer.recipes.base_model import load_base
from trainer.recipes.fingerprint import record_fingerprint

pytestmark = pytest.mark.engine

DIGEST = "0" * 64
RANK = 16


class TrainerSide:
    """The base model as the trainer has it, and fingerprints made with it."""

    def __init__(self, model_folder: Path) -> None:
        self.folder = model_folder
        self.encoder = ChatEncoder(model_folder)
        self.base = load_base(model_folder)

    def record(self, adapter: Path, target: Path, encoder: ChatEncoder | None = None) -> None:
        """Write the fingerprint of *adapter*, as PEFT computes it, to the folder *target*."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        model = PeftModel.from_pretrained(self.base, adapter)
        prompts = ProbePrompts(trained=(), neutral=neutral_prompts(4))
        write_fingerprint(record_fingerprint(model, encoder or self.encoder, prompts, DIGEST), target)
        self.base = model.unload()
        torch.set_num_threads(threads)

    @contextmanager
    def other_base(self) -> Iterator[None]:
        """The base is another one inside: what a further training would change, a few of its layers are."""
        source, changed = torch.Generator().manual_seed(0), [".10.mlp.", ".11.mlp.", ".12.mlp."]
        kept = {
            name: weight.detach().clone()
            for name, weight in self.base.named_parameters()
            if any(part in name for part in changed)
        }
        with torch.no_grad():
            for name, weight in kept.items():
                self.base.get_parameter(name).copy_(weight * (1 + 0.2 * torch.randn(weight.shape, generator=source)))
            yield
            for name, weight in kept.items():
                self.base.get_parameter(name).copy_(weight)


@pytest.fixture(scope="module")
def trainer(model_folder: Path) -> TrainerSide:
    return TrainerSide(model_folder)


@pytest.fixture(scope="module")
def server(kind: str, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineHost]:
    """A server with room for the adapters of this module."""
    engine = EngineSettings(
        kind=kind,
        base_path=model_folder,
        base_name="base",
        log_path=tmp_path_factory.mktemp("server") / "engine.log",
        max_adapters=4,
        max_rank=64,
        max_context=512,
    )
    running = EngineHost(engine)
    yield running
    running.close()


@pytest.fixture(scope="module")
def published(trainer: TrainerSide, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rank-stabilised adapter of moderate effect, normalised, with its fingerprint."""
    root = tmp_path_factory.mktemp("published")
    raw = write_adapter(root / "raw", trainer.folder, seed=3, rank=RANK, strength=0.005, use_rslora=True)
    normalize_adapter(raw, root / "normal", "base", trainer.folder)
    trainer.record(raw, root / "normal")
    return root / "normal"


@pytest.fixture
def loaded(server: EngineHost) -> Iterator[Callable[[Path], str]]:
    """Loads a folder and answers with its served name; everything is unloaded after the test."""
    names: list[str] = []

    def load(folder: Path) -> str:
        names.append(f"proof-{uuid4().hex[:8]}@1")
        server.load(names[-1], folder)
        return names[-1]

    yield load
    for name in names:
        server.call(server.engine.unload_adapter(name))


def proof_of(server: EngineHost, kind: str, name: str, folder: Path) -> Proof:
    url, tolerance = server.engine.base_url, tolerance_of(kind, "fp32")
    proof = asyncio.run(prove(url, {"model": name}, folder, tolerance))
    print(f"{kind}: {proof.message}")  # noqa: T201  the figures of the closing note
    return proof


def test_a_good_adapter_passes(server: EngineHost, kind: str, published: Path, loaded: Callable[[Path], str]) -> None:
    proof = proof_of(server, kind, loaded(published), published)
    assert proof.passed, proof.message
    assert proof.prompt_tokens_equal
    assert proof.separation == pytest.approx(1.0, abs=0.02)
    assert proof.mean_difference < 0.005
    assert proof.compared > proof.recorded / 2


def test_an_adapter_that_is_silently_not_applied_fails(server: EngineHost, kind: str, published: Path) -> None:
    proof = proof_of(server, kind, "base", published)
    assert not proof.passed
    assert proof.message.startswith("the adapter is not applied")
    assert proof.separation == pytest.approx(0.0, abs=0.02)


def test_an_adapter_of_hardly_any_effect_fails_too_when_it_is_not_applied(
    server: EngineHost, kind: str, trainer: TrainerSide, loaded: Callable[[Path], str], tmp_path: Path
) -> None:
    raw = write_adapter(tmp_path / "raw", trainer.folder, seed=4, rank=8, strength=2e-5)
    normalize_adapter(raw, tmp_path / "faint", "base", trainer.folder)
    trainer.record(raw, tmp_path / "faint")
    applied = proof_of(server, kind, loaded(tmp_path / "faint"), tmp_path / "faint")
    assert applied.passed, applied.message
    ignored = proof_of(server, kind, "base", tmp_path / "faint")
    assert not ignored.passed
    assert ignored.mean_difference < ignored.tolerance, "the difference alone would not have told"


def test_another_chat_template_fails(
    server: EngineHost, kind: str, published: Path, trainer: TrainerSide, loaded: Callable[[Path], str], tmp_path: Path
) -> None:
    name = loaded(published)
    for old, new in (("SmolLM", "Kettle"), ("You are a helpful AI assistant", "You are a hostile AI opponent")):
        folder = tmp_path / new.replace(" ", "-")
        shutil.copytree(published, folder)
        trainer.record(published, folder, encoder_with(trainer.folder, tmp_path / f"base-{folder.name}", old, new))
        proof = proof_of(server, kind, name, folder)
        assert not proof.passed
        assert proof.mean_difference > proof.tolerance or not proof.prompt_tokens_equal


def test_another_base_fails(
    server: EngineHost, kind: str, published: Path, trainer: TrainerSide, loaded: Callable[[Path], str], tmp_path: Path
) -> None:
    shutil.copytree(published, tmp_path / "other")
    with trainer.other_base():
        trainer.record(published, tmp_path / "other")
    proof = proof_of(server, kind, loaded(published), tmp_path / "other")
    assert not proof.passed
    assert proof.prompt_tokens_equal
    assert proof.mean_difference > proof.tolerance


def test_a_missing_rslora_factor_fails(
    server: EngineHost, kind: str, published: Path, loaded: Callable[[Path], str], tmp_path: Path
) -> None:
    shutil.copytree(published, tmp_path / "unscaled")
    path = tmp_path / "unscaled" / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"lora_alpha": config["lora_alpha"] // RANK**0.5}))
    proof = proof_of(server, kind, loaded(tmp_path / "unscaled"), published)
    assert not proof.passed
    assert "another effect than in training" in proof.message
    assert 0.0 < proof.separation < 0.6


def test_a_server_that_cannot_be_asked_proves_nothing(
    server: EngineHost, kind: str, published: Path, tmp_path: Path
) -> None:
    with pytest.raises(FingerprintMissing, match=r"has no fingerprint\.json"):
        proof_of(server, kind, "base", tmp_path)
    (tmp_path / "fingerprint.json").write_text('{"format": 2}')
    with pytest.raises(FingerprintMissing, match="is not readable: format"):
        proof_of(server, kind, "base", tmp_path)
    with pytest.raises(EngineUnavailable, match="POST /v1/chat/completions"):
        asyncio.run(prove("http://127.0.0.1:1", {"model": "base"}, published, 0.01))


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rank=st.integers(1, 20),
    alpha=st.integers(1, 48),
    rslora=st.booleans(),
    patterns=st.fixed_dictionaries(
        {},
        optional={
            "rank_pattern": st.fixed_dictionaries({r"layers\.[0-9]\.self_attn\.(q|v)_proj": st.integers(1, 24)}),
            "alpha_pattern": st.fixed_dictionaries({"down_proj": st.integers(1, 64)}),
        },
    ),
)
def test_any_legal_adapter_computes_the_same_after_normalising_as_peft_does_before(
    server: EngineHost,
    kind: str,
    trainer: TrainerSide,
    tmp_path: Path,
    rank: int,
    alpha: int,
    rslora: bool,
    patterns: dict[str, dict[str, int]],
) -> None:
    root = tmp_path / uuid4().hex
    raw = write_adapter(root / "raw", trainer.folder, seed=rank, rank=rank, strength=0.002)
    config: dict[str, Any] = {"lora_alpha": alpha, "use_rslora": rslora, **patterns}
    path = raw / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    for pattern, other in patterns.get("rank_pattern", {}).items():
        give_rank(raw, trainer.folder, pattern, other)
    normalize_adapter(raw, root / "normal", "base", trainer.folder)
    trainer.record(raw, root / "normal")
    name = f"legal-{root.name[:8]}@1"
    server.load(name, root / "normal")
    try:
        proof = proof_of(server, kind, name, root / "normal")
    finally:
        server.call(server.engine.unload_adapter(name))
    assert proof.passed, (proof.message, config)


def give_rank(adapter: Path, model: Path, pattern: str, rank: int) -> None:
    """Random weights of another rank for the modules whose name ends with the pattern."""
    path = adapter / "adapter_model.safetensors"
    tensors, source = load_file(path), torch.Generator().manual_seed(rank)
    for name, (size_in, size_out) in layer_shapes(model).items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            prefix = f"base_model.model.{name}"
            tensors[f"{prefix}.lora_A.weight"] = torch.randn(rank, size_in, generator=source) * size_in**-0.5
            tensors[f"{prefix}.lora_B.weight"] = torch.randn(size_out, rank, generator=source) * 0.002
    save_file(tensors, path)


def encoder_with(model: Path, folder: Path, old: str, new: str) -> ChatEncoder:
    """The encoder of a model whose chat template says *new* where this one's says *old*."""
    folder.mkdir()
    for path in model.iterdir():
        if path.suffix in (".json", ".jinja"):
            (folder / path.name).write_text(path.read_text().replace(old, new))
    return ChatEncoder(folder)
