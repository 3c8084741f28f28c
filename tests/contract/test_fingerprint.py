"""Every engine proves a good adapter, and each of the faults that have been seen in the field fails with numbers."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engines.catalog import ENGINES, adapter_fields
from engines.errors import EngineUnavailable, FingerprintMissing
from engines.fingerprint import Proof, prove, tolerance_of
from engines.settings import EngineSettings
from registry.normalize import normalize_adapter
from tests.contract.engine_host import BASE, EngineHost
from tests.engines.random_adapter import write_adapter
from tests.trainer_side import TrainerSide, encoder_with

log = logging.getLogger(__name__)

RANK = 16
LEGAL = ("legal1@1", "legal2@1", "legal3@1")
EARLY_VALUES = r"layers\.[0-9]\.self_attn\.(q|v)_proj"


@pytest.fixture(scope="session")
def trainer(model_folder: Path) -> TrainerSide:
    return TrainerSide(model_folder)


@pytest.fixture(scope="session")
def folders(trainer: TrainerSide, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Served name -> normalised folder with the fingerprint of what PEFT computed before it was normalised."""
    root, base = tmp_path_factory.mktemp("published"), trainer.folder
    raw = {
        "good@1": write_adapter(root / "raw-good", base, 3, rank=RANK, strength=0.005, use_rslora=True),
        "faint@1": write_adapter(root / "raw-faint", base, 4, rank=8, strength=2e-5),
    }
    for seed, name in enumerate(LEGAL):
        drawn = random.Random(seed)
        rank, pattern = drawn.randint(1, 20), {EARLY_VALUES: drawn.randint(1, 24)}
        config = {
            "use_rslora": drawn.random() < 0.5,
            "lora_alpha": drawn.randint(1, 48),
            "alpha_pattern": {"down_proj": drawn.randint(1, 64)} if drawn.random() < 0.5 else {},
        }
        raw[name] = write_adapter(
            root / f"raw-{name}", base, seed, rank=rank, rank_pattern=pattern, strength=0.003, **config
        )
    made = {name: root / name for name in raw}
    for name, folder in made.items():
        normalize_adapter(raw[name], folder, BASE, base)
        trainer.record(raw[name], folder)
    made["unscaled@1"] = without_rslora_factor(made["good@1"], root / "unscaled@1")
    return made


def without_rslora_factor(good: Path, folder: Path) -> Path:
    """As an engine would compute the good adapter if it had left its rank-stabilised scaling out."""
    shutil.copytree(good, folder)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"lora_alpha": round(config["lora_alpha"] / RANK**0.5)}))
    return folder


@pytest.fixture(scope="module")
def server(
    kind: str,
    settings_of: Callable[..., EngineSettings],
    folders: dict[str, Path],
    request: pytest.FixtureRequest,
) -> Iterator[EngineHost]:
    """A server with all of them: the suite's own where adapters come and go, else one that was started with them."""
    if not ENGINES[kind].live_adapters:
        running = EngineHost(settings_of(max_adapters=len(folders), max_rank=32), folders)
        yield running
        running.close()
        return
    host: EngineHost = request.getfixturevalue("host")
    for name, folder in folders.items():
        host.load(name, folder)
    yield host
    for name in folders:
        host.call(host.engine.unload_adapter(name))


def proof_of(server: EngineHost, name: str, folder: Path) -> Proof:
    fields = {"model": BASE} if name == BASE else adapter_fields(server.kind, name)
    proof = asyncio.run(prove(server.engine.base_url, fields, folder, tolerance_of(server.kind, "fp32")))
    log.info("%s %s: %s", server.kind, name, proof.message)  # shown with --log-cli-level=info
    return proof


@pytest.mark.parametrize("name", ["good@1", "faint@1", *LEGAL])
def test_a_good_adapter_passes_and_normalising_changed_nothing(
    server: EngineHost, folders: dict[str, Path], name: str
) -> None:
    proof = proof_of(server, name, folders[name])
    assert proof.passed, proof.message
    assert proof.prompt_tokens_equal
    assert proof.separation == pytest.approx(1.0, abs=0.05)
    assert proof.mean_difference < 0.005
    assert proof.compared > proof.recorded / 2


@pytest.mark.parametrize("name", ["good@1", "faint@1"])
def test_an_adapter_that_is_silently_not_applied_fails_however_faint_it_is(
    server: EngineHost, folders: dict[str, Path], name: str
) -> None:
    proof = proof_of(server, BASE, folders[name])
    assert not proof.passed
    assert proof.message.startswith("the adapter is not applied")
    assert proof.separation == pytest.approx(0.0, abs=0.05)
    if name == "faint@1":
        assert proof.mean_difference < proof.tolerance, "the difference alone would not have told"


@pytest.mark.parametrize(
    ("old", "new", "same_length"),
    [
        ("SmolLM", "Kettle", False),
        ("You are a helpful AI assistant", "You are a hostile AI opponent", True),
    ],
)
def test_another_chat_template_fails(
    server: EngineHost,
    folders: dict[str, Path],
    trainer: TrainerSide,
    tmp_path: Path,
    old: str,
    new: str,
    same_length: bool,
) -> None:
    encoder = encoder_with(trainer.folder, tmp_path / "base", old, new)
    shutil.copytree(folders["good@1"], tmp_path / "other")
    trainer.record(folders["good@1"], tmp_path / "other", encoder)
    proof = proof_of(server, "good@1", tmp_path / "other")
    assert not proof.passed
    if same_length:
        assert proof.mean_difference > proof.tolerance
    else:
        assert not proof.prompt_tokens_equal


def test_another_base_fails(server: EngineHost, folders: dict[str, Path], trainer: TrainerSide, tmp_path: Path) -> None:
    shutil.copytree(folders["good@1"], tmp_path / "other")
    with trainer.other_base(".10.mlp.", ".11.mlp.", ".12.mlp."):
        trainer.record(folders["good@1"], tmp_path / "other")
    proof = proof_of(server, "good@1", tmp_path / "other")
    assert not proof.passed
    assert proof.prompt_tokens_equal
    assert proof.mean_difference > proof.tolerance


def test_a_missing_rslora_factor_fails(server: EngineHost, folders: dict[str, Path]) -> None:
    proof = proof_of(server, "unscaled@1", folders["good@1"])
    assert not proof.passed
    assert "another effect than in training" in proof.message
    assert 0.0 < proof.separation < 0.6


@pytest.mark.engine
def test_without_fingerprint_or_server_nothing_is_proven(tmp_path: Path, folders: dict[str, Path]) -> None:
    def ask(folder: Path) -> None:
        asyncio.run(prove("http://127.0.0.1:1", {"model": BASE}, folder, 0.01))

    with pytest.raises(FingerprintMissing, match=r"has no fingerprint\.json"):
        ask(tmp_path)
    (tmp_path / "fingerprint.json").write_text('{"format": 2}')
    with pytest.raises(FingerprintMissing, match="is not readable: format"):
        ask(tmp_path)
    with pytest.raises(EngineUnavailable, match="POST /v1/chat/completions"):
        ask(folders["good@1"])
