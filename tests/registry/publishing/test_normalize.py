"""Every LoRA that PEFT can express becomes one adapter that computes the same and that every engine reads."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import TensorSpec, safe_open, serialize_file
from safetensors.numpy import load_file, save_file

from registry.errors import AdapterRejected
from registry.publishing.adapter_weights import read_matrices
from registry.publishing.checks import check_adapter
from registry.publishing.normalize import LEGAL_RANKS, legal_rank
from registry.types import Base
from tests.registry.publishing.adapter_folders import Array, Make, normalize_adapter, rewritten

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
FIRST_Q = "model.layers.0.self_attn.q_proj"


def config_of(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text())
    return config


def effects(folder: Path) -> dict[str, Array]:
    """Module -> what a plain adapter adds to its weight."""
    config, tensors = config_of(folder), {name: matrix.widened() for name, matrix in read_matrices(folder / WEIGHTS)}
    scaling = config["lora_alpha"] / config["r"]
    names = [name.removesuffix(".lora_A.weight") for name in tensors if name.endswith("A.weight")]
    return {
        name.removeprefix(PREFIX): scaling * tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]
        for name in names
    }


def assert_same(found: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    assert found.keys() == expected.keys()
    for name, effect in expected.items():
        np.testing.assert_allclose(found[name], effect, rtol=1e-5, atol=1e-4)


def test_a_plain_adapter_keeps_its_effect_and_gets_a_legal_rank(make_adapter: Make, base: Base, tmp_path: Path) -> None:
    source = make_adapter(rank=3, targets=("q_proj", "v_proj", "down_proj"))
    shape = normalize_adapter(source, tmp_path / "normal", base)
    assert (shape.rank, shape.target_modules) == (8, ("down_proj", "q_proj", "v_proj"))
    assert check_adapter(tmp_path / "normal", Path(base.path)) == shape
    config = config_of(tmp_path / "normal")
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (8, 16, "tiny")
    assert_same(effects(tmp_path / "normal"), effects(source))
    again = normalize_adapter(tmp_path / "normal", tmp_path / "again", base)
    assert again == shape
    for name in ("adapter_config.json", WEIGHTS):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "normal" / name).read_bytes()


def test_only_what_every_engine_reads_is_written(make_adapter: Make, base: Base, tmp_path: Path) -> None:
    source = make_adapter(rank=8, peft_version="0.21.2", layers_to_transform=None, lora_dropout=0.1, revision="x")
    (source / "README.md").write_text("# mine")
    (source / "fingerprint.json").write_text("{}")
    normalize_adapter(source, tmp_path / "normal", base)
    assert sorted(path.name for path in (tmp_path / "normal").iterdir()) == ["adapter_config.json", WEIGHTS]
    known_to_peft_0_14 = {
        *("peft_type", "base_model_name_or_path", "task_type", "inference_mode", "r", "lora_alpha", "lora_dropout"),
        *("target_modules", "bias", "fan_in_fan_out", "modules_to_save", "init_lora_weights", "use_rslora"),
    }
    assert set(config_of(tmp_path / "normal")) == known_to_peft_0_14


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rank=st.integers(1, 20),
    other=st.integers(1, 20),
    alpha=st.integers(1, 64),
    other_alpha=st.floats(0.5, 64),
    rslora=st.booleans(),
    key=st.sampled_from(["v_proj", "layers.0.self_attn.v_proj", r".*\.1\.self_attn\.(q|v)_proj"]),
    data=st.data(),
)
def test_any_scaling_and_any_ranks_keep_their_effect(
    make_adapter: Make,
    base: Base,
    tmp_path: Path,
    rank: int,
    other: int,
    alpha: int,
    other_alpha: float,
    rslora: bool,
    key: str,
    data: st.DataObject,
) -> None:
    patterns: dict[str, dict[str, float]] = {}
    if data.draw(st.booleans()):
        patterns["rank_pattern"] = {key: other}
    if data.draw(st.booleans()):
        patterns["alpha_pattern"] = {key: other_alpha}
    source = make_adapter(rank=rank, lora_alpha=alpha, use_rslora=rslora, **patterns)
    random, expected = np.random.default_rng(rank), {}

    def changed(tensors: dict[str, Array]) -> dict[str, Array]:
        for name in [name for name in tensors if "lora_A" in name]:
            module = name.removeprefix(PREFIX).removesuffix(".lora_A.weight")
            hit = re.match(rf"(.*\.)?({key})$", module) is not None
            own_rank = other if hit and "rank_pattern" in patterns else rank
            own_alpha = other_alpha if hit and "alpha_pattern" in patterns else alpha
            up_name = name.replace("lora_A", "lora_B")
            tensors[name] = random.standard_normal((own_rank, tensors[name].shape[1])).astype(np.float32)
            tensors[up_name] = random.standard_normal((tensors[up_name].shape[0], own_rank)).astype(np.float32)
            scaling = own_alpha / (math.sqrt(own_rank) if rslora else own_rank)
            expected[module] = scaling * tensors[up_name] @ tensors[name]
        return tensors

    target = tmp_path / source.name
    shape = normalize_adapter(rewritten(source, changed), target / "normal", base)
    assert shape.rank in LEGAL_RANKS
    assert check_adapter(target / "normal", Path(base.path)) == shape
    assert_same(effects(target / "normal"), expected)


def test_bfloat16_is_padded_bit_for_bit_and_scaled_without_loss(make_adapter: Make, base: Base, tmp_path: Path) -> None:
    for alpha, stays in ((4, True), (3, False)):
        source = make_adapter(rank=2, lora_alpha=alpha, use_rslora=not stays)
        tensors = load_file(source / WEIGHTS)
        halves = {name: (tensor.view(np.uint32) >> 16).astype("<u2") for name, tensor in tensors.items()}
        entries = {
            name: TensorSpec(dtype="bfloat16", shape=half.shape, data_ptr=half.ctypes.data, data_len=half.nbytes)
            for name, half in halves.items()
        }
        serialize_file(entries, source / WEIGHTS)
        target = tmp_path / f"normal-{alpha}"
        normalize_adapter(source, target, base)
        with safe_open(target / WEIGHTS, framework="numpy") as written:
            name = f"{PREFIX}{FIRST_Q}.lora_B.weight"
            assert written.get_slice(name).get_dtype() == ("BF16" if stays else "F32")
        wide = {name: (half.astype(np.uint32) << 16).view(np.float32) for name, half in halves.items()}
        up, down = wide[f"{PREFIX}{FIRST_Q}.lora_B.weight"], wide[f"{PREFIX}{FIRST_Q}.lora_A.weight"]
        scaling = alpha / (2 if stays else math.sqrt(2))
        np.testing.assert_allclose(effects(target)[FIRST_Q], scaling * up @ down, atol=1e-6)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (".weight", ".default.weight"),
        ("base_model.model.", ""),
        ("base_model.model.", "base_model.model.base_model.model."),
        ("base_model.model.model.layers", "base_model.model.model.language_model.layers"),
        ("base_model.model.model.layers", "base_model.model.layers"),
        ("base_model.model.", "_orig_mod.base_model.model."),
        ("base_model.model.", "module.base_model.model._orig_mod."),
        ("base_model.model.", "_forward_module.base_model.model._fsdp_wrapped_module."),
        (".self_attn.", "._fsdp_wrapped_module._checkpoint_wrapped_module.self_attn._orig_mod."),
        ("_proj.lora", "_proj._orig_mod.lora"),
        (".weight", ".module.default.weight"),
    ],
)
def test_names_of_other_trainers_become_the_base_s_own(
    make_adapter: Make, base: Base, tmp_path: Path, old: str, new: str
) -> None:
    source = make_adapter()
    expected = effects(source)
    rewritten(source, lambda tensors: {name.replace(old, new, 1): tensor for name, tensor in tensors.items()})
    normalize_adapter(source, tmp_path / "normal", base)
    assert_same(effects(tmp_path / "normal"), expected)


@pytest.fixture
def fused_base(base: Base) -> Base:
    """The tiny base with keys of their own, so that queries, keys and values could be one module."""
    path = Path(base.path) / "model.safetensors"
    tensors = load_file(path)
    for layer in range(2):
        tensors[f"model.layers.{layer}.self_attn.k_proj.weight"] = np.zeros((4, 8), np.float32)
    save_file(tensors, path)
    return base


def test_fused_modules_are_taken_apart(make_adapter: Make, fused_base: Base, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    down, up = random.standard_normal((2, 8)), random.standard_normal((16, 2))
    name = f"{PREFIX}model.layers.0.self_attn.qkv_proj"
    source = make_adapter(target_modules=["qkv_proj"])
    save_file(
        {f"{name}.lora_A.weight": down.astype(np.float32), f"{name}.lora_B.weight": up.astype(np.float32)},
        source / WEIGHTS,
    )
    shape = normalize_adapter(source, tmp_path / "normal", fused_base)
    assert shape.target_modules == ("k_proj", "q_proj", "v_proj")
    found = effects(tmp_path / "normal")
    parts = [found[f"model.layers.0.self_attn.{part}_proj"] for part in "qkv"]
    np.testing.assert_allclose(np.concatenate(parts), 2 * up @ down, atol=1e-5)
    assert not found["model.layers.1.self_attn.q_proj"].any()


def test_layers_that_are_left_out_get_zeros(make_adapter: Make, base: Base, tmp_path: Path) -> None:
    source = make_adapter(layers_to_transform=[0])
    rewritten(source, lambda tensors: {name: tensor for name, tensor in tensors.items() if ".layers.0." in name})
    normalize_adapter(source, tmp_path / "normal", base)
    found = effects(tmp_path / "normal")
    assert len(found) == 4
    assert found[FIRST_Q].any() and not found["model.layers.1.self_attn.q_proj"].any()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("use_dora", True, "DoRA, which vLLM cannot serve"),
        ("lora_bias", True, "a bias in the LoRA layers, which vLLM cannot serve"),
        ("bias", "lora_only", "the transformers engine adds no bias"),
        ("modules_to_save", ["lm_head"], "which the transformers engine cannot serve"),
        ("alora_invocation_tokens", [1], "activated LoRA, which vLLM cannot serve"),
        ("layer_replication", [[0, 2]], "replicated layers, which vLLM cannot serve"),
        ("init_lora_weights", "pissa", "a changed base, which vLLM cannot serve; convert"),
        ("init_lora_weights", "PiSSA_niter_16", "a changed base"),
        ("init_lora_weights", "olora", "a changed base"),
        ("init_lora_weights", "corda", "a changed base"),
        ("init_lora_weights", "loftq", "a changed base"),
        ("kasa_config", {"beta": 1}, "this field is not known"),
        ("rank_pattern", {"q_proj": 0}, "a number above 0"),
        ("alpha_pattern", ["q_proj"], "a number above 0"),
    ],
)
def test_what_no_plain_adapter_can_say_is_refused_with_the_engine_that_needs_it(
    make_adapter: Make, base: Base, tmp_path: Path, field: str, value: object, message: str
) -> None:
    with pytest.raises(AdapterRejected, match=rf"adapter_config\.json: {field} is .*{message}"):
        normalize_adapter(make_adapter(**{field: value}), tmp_path / "normal", base)
    assert not (tmp_path / "normal").exists()


@pytest.mark.parametrize("init", [True, False, "gaussian", "eva", "orthogonal"])
def test_an_initialisation_that_keeps_the_base_is_taken(
    make_adapter: Make, base: Base, tmp_path: Path, init: object
) -> None:
    assert normalize_adapter(make_adapter(init_lora_weights=init), tmp_path / "normal", base).rank == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda tensors: tensors | {f"{PREFIX}lm_head.lora_A.weight": np.zeros((2, 8), np.float32)},
            "lm_head has lora_A",
        ),
        (lambda tensors: tensors | {f"{PREFIX}x.lora_magnitude_vector": np.zeros((2, 2), np.float32)}, "x.lora_magni"),
        (
            lambda tensors: {name.replace("q_proj", "c_attn"): tensor for name, tensor in tensors.items()},
            r"layers\.0\.self_attn\.c_attn is not a linear module of the base",
        ),
        (
            lambda tensors: {name: np.full_like(tensor, np.nan) for name, tensor in tensors.items()},
            "has values that are not finite",
        ),
        (lambda tensors: {name: tensor[:, :1] for name, tensor in tensors.items()}, "ranks 2 and 1; .* has 2"),
        (
            lambda tensors: {n: np.pad(t, ((0, 0), (0, 1))) if "A" in n else t for n, t in tensors.items()},
            r"lora_A is \[2, 9\] and lora_B \[8, 2\]; this base model needs \[2, 8\]",
        ),
        (lambda tensors: {}, "the file has no weights"),
        (
            lambda tensors: {name: tensor[:0, 0] for name, tensor in tensors.items()},
            r"is \[0\]; a LoRA weight has two dimensions; .*ZeRO-3",
        ),
    ],
)
def test_weights_that_cannot_be_mapped_are_named(
    make_adapter: Make,
    base: Base,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], dict[str, Any]],
    message: str,
) -> None:
    with pytest.raises(AdapterRejected, match=message):
        normalize_adapter(rewritten(make_adapter(), change), tmp_path / "normal", base)


def test_a_rank_above_every_engine_s_is_refused() -> None:
    assert [legal_rank(rank) for rank in (1, 8, 9, 300, 512)] == [8, 8, 16, 320, 512]
    with pytest.raises(AdapterRejected, match="rank 513 is above 512, the highest that vLLM can serve"):
        legal_rank(513)
