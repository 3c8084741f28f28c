"""Folders as trainers, hubs and attackers make them: what is not needed is left out, what cannot be served refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from registry.errors import AdapterRejected
from registry.publishing.adapter_files import left_out
from registry.publishing.normalize import normalize_adapter as normalize_for
from registry.types import Base
from tests.registry.publishing.adapter_folders import WEIGHTS, Array, Make, normalize_adapter, rewritten

FIRST_Q = "model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    "change",
    [
        lambda name, tensor: tensor * 0 if "lora_B" in name else tensor,
        lambda name, tensor: tensor * -0.0 if "lora_A" in name else tensor,
        lambda name, tensor: tensor * ([0, 1] if "lora_B" in name else [[1], [0]]),
    ],
)
@pytest.mark.parametrize("half", [np.float32, np.float16])
def test_an_adapter_without_effect_is_refused(
    make_adapter: Make, base: Base, tmp_path: Path, change: Callable[[str, Array], Array], half: type
) -> None:
    source = rewritten(make_adapter(), lambda ts: {n: change(n, t).astype(half) for n, t in ts.items()})
    with pytest.raises(AdapterRejected, match=r"the adapter has no effect.*changes nothing"):
        normalize_adapter(source, tmp_path / "normal", base)
    assert not (tmp_path / "normal").exists()


def test_a_scaling_that_leaves_nothing_or_infinity_is_refused(make_adapter: Make, base: Base, tmp_path: Path) -> None:
    for alpha, message in (
        (1e-50, "no effect"),
        (0, "lora_alpha is 0; .* above 0"),
        (float("inf"), "lora_alpha is inf"),
    ):
        with pytest.raises(AdapterRejected, match=message):
            normalize_adapter(make_adapter(lora_alpha=alpha), tmp_path / "normal", base)
    source = rewritten(make_adapter(lora_alpha=999_999.3), lambda ts: {n: t * 1e35 for n, t in ts.items()})
    with pytest.raises(AdapterRejected, match=r"times its scaling of 500000 .* not finite"):
        normalize_adapter(source, tmp_path / "normal", base)


def test_an_adapter_with_effect_in_a_single_module_is_taken(make_adapter: Make, base: Base, tmp_path: Path) -> None:
    kept = f"{FIRST_Q}.lora_B"
    source = rewritten(make_adapter(), lambda ts: {n: t * (kept in n or "lora_A" in n) for n, t in ts.items()})
    assert normalize_adapter(source, tmp_path / "normal", base).rank == 8


def filled_base(base: Base) -> Base:
    """The tiny base with random weights."""
    path, random = Path(base.path) / "model.safetensors", np.random.default_rng(3)
    save_file({n: random.standard_normal(t.shape).astype(np.float32) for n, t in load_file(path).items()}, path)
    return base


def with_saved(folder: Path, name: str, saved: Array) -> Path:
    return rewritten(folder, lambda tensors: tensors | {name: saved})


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.model.embed_tokens.weight",
        "base_model.model.lm_head.weight",
        "base_model.model.lm_head.base_layer.weight",
        "_orig_mod.base_model.model.model.language_model.embed_tokens._fsdp_wrapped_module.weight",
    ],
)
@pytest.mark.parametrize("saved_as", [np.float32, np.float16])
def test_saved_embeddings_of_the_base_are_dropped_and_named(
    make_adapter: Make, base: Base, tmp_path: Path, name: str, saved_as: type
) -> None:
    own = load_file(Path(filled_base(base).path) / "model.safetensors")["model.embed_tokens.weight"]
    form = normalize_for(
        with_saved(make_adapter(), name, own.astype(saved_as)), tmp_path / "normal", "tiny", Path(base.path)
    )
    assert form.dropped == (name,)
    assert len(load_file(tmp_path / "normal" / WEIGHTS)) == 8


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (lambda own: own + np.eye(*own.shape, dtype=np.float32) * 1e-6, "differs from the base's model.embed_tokens"),
        (
            lambda own: np.pad(own, ((0, 2), (0, 0))),
            r"is \[34, 8\], and the base's model.embed_tokens.weight is \[32, 8\]",
        ),
    ],
)
def test_trained_embeddings_are_refused_with_what_to_do(
    make_adapter: Make, base: Base, tmp_path: Path, change: Callable[[Array], Array], how: str
) -> None:
    own = load_file(Path(filled_base(base).path) / "model.safetensors")["model.embed_tokens.weight"]
    source = with_saved(make_adapter(), "base_model.model.model.embed_tokens.weight", change(own))
    with pytest.raises(AdapterRejected, match=rf"{how}.*save_embedding_layers=False"):
        normalize_adapter(source, tmp_path / "normal", base)


def test_what_a_trainer_leaves_beside_an_adapter_is_not_read(make_adapter: Make, base: Base, tmp_path: Path) -> None:
    source = make_adapter()
    for name in ("training_args.bin", "adapter_model.bin", "loss.png", "checkpoint-7/optimizer.pt", "runs/x"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(b"\x80")
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for name in ("adapter_config.json", WEIGHTS):
        (source / name).rename(blobs / name)
        (source / name).symlink_to(blobs / name)
    assert normalize_adapter(source, tmp_path / "normal", base).rank == 8


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["adapter_config.json", WEIGHTS, "new_embeddings.safetensors"], "new_embeddings.safetensors: weights beside"),
        (["adapter_config.json", "adapter_model-00001-of-00002.safetensors"], "adapter_model-00001.*: weights beside"),
        (["adapter_config.json", "adapter_model.bin"], "adapter_model.bin: may run code.*save it anew"),
        (["checkpoint-10/", "trainer_state.json"], "each of checkpoint-10/ may be the folder of an adapter"),
        (["mine/"], "must not be in a folder of their own"),
        ([f"{n}.txt" for n in range(1000)], "and 980 more"),
        (["x" * 5000, "\udcff"], r"has xxx.*x\.\.\., .udcff"),
        ([], "has no files"),
    ],
)
def test_a_folder_without_an_adapter_is_refused_with_a_hint(names: list[str], message: str) -> None:
    with pytest.raises(AdapterRejected, match=message):
        left_out(names)


def test_a_config_may_begin_with_a_byte_order_mark(make_adapter: Make, base: Base, tmp_path: Path) -> None:
    for number, encoding in enumerate(("utf-8-sig", "utf-16")):
        source = make_adapter()
        config = (source / "adapter_config.json").read_text()
        (source / "adapter_config.json").write_bytes(config.encode(encoding))
        assert normalize_adapter(source, tmp_path / f"normal-{number}", base).rank == 8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"r": ' + "9" * 5000 + "}", "a number is too long"),
        ("[" * 100_000, "the nesting too deep"),
        (" " * (1 << 20) + "{}", "longer than 1048576 bytes"),
        ('{"peft_type": "LORA", "r": 1' + "0" * 4000 + "}", r"r is 1000*\.\.\.; the rank"),
    ],
)
def test_a_config_of_any_content_is_refused_in_few_words(
    make_adapter: Make, base: Base, tmp_path: Path, content: str, message: str
) -> None:
    source = make_adapter()
    (source / "adapter_config.json").write_text(content)
    with pytest.raises(AdapterRejected, match=message) as refused:
        normalize_adapter(source, tmp_path / "normal", base)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ({r"(?=x)q_proj": 4}, "cannot be matched in linear time"),
        ({r"(q)\1": 4}, "cannot be matched in linear time"),
        ({"(a{1000}){1000}": 4}, "cannot be matched in linear time"),
        ({"\ud800": 4}, "cannot be matched in linear time"),
        ({"a" * 600: 4}, "longer than 512 characters"),
        ({f"layer{n}": 4 for n in range(3000)}, "has 3000 patterns"),
    ],
)
def test_patterns_that_cannot_be_matched_quickly_are_refused(
    make_adapter: Make, base: Base, tmp_path: Path, patterns: dict[str, int], message: str
) -> None:
    with pytest.raises(AdapterRejected, match=rf"alpha_pattern.*{message}"):
        normalize_adapter(make_adapter(alpha_pattern=patterns), tmp_path / "normal", base)


def test_a_pattern_that_backtracking_never_ends_is_matched(make_adapter: Make, base: Base, tmp_path: Path) -> None:
    hostile = {"(.*)*" * 20 + "!": 4, "((([a-z_.0-9])*)*)*x": 4}
    normalize_adapter(make_adapter(rank_pattern=hostile, alpha_pattern=hostile), tmp_path / "normal", base)
    assert (tmp_path / "normal" / "adapter_model.safetensors").is_file()


def test_a_few_weights_that_padding_makes_huge_are_refused(make_adapter: Make, base: Base, tmp_path: Path) -> None:
    with pytest.raises(AdapterRejected, match=r"bytes once every layer .* up to 1000 \(max_upload_bytes\)"):
        normalize_for(make_adapter(), tmp_path / "normal", "tiny", Path(base.path), 1000)
