"""An adapter passes only if every engine can serve it on its base, and a refusal names part and reason."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from registry.errors import AdapterRejected
from registry.publishing.adapter_name import check_adapter_name
from registry.publishing.checks import AdapterShape, check_adapter, check_targets
from registry.types import Base

WEIGHTS = "adapter_model.safetensors"
FIRST_Q = "base_model.model.model.layers.0.self_attn.q_proj"

Make = Callable[..., Path]


def test_a_lora_adapter_of_the_base_passes(make_adapter: Make, base_folder: Path) -> None:
    folder = make_adapter(rank=4, targets=("v_proj", "q_proj", "down_proj"), revision=None)
    (folder / "README.md").write_text("# support")
    shape = AdapterShape(rank=4, target_modules=("down_proj", "q_proj", "v_proj"))
    assert check_adapter(folder, base_folder) == shape


def test_a_base_in_several_files_is_read_through_its_index(make_adapter: Make, base_folder: Path) -> None:
    tensors = load_file(base_folder / "model.safetensors")
    (base_folder / "model.safetensors").unlink()
    weight_map = {name: f"model-{number % 2}.safetensors" for number, name in enumerate(tensors)}
    for part in sorted(set(weight_map.values())):
        save_file({name: tensors[name] for name in tensors if weight_map[name] == part}, base_folder / part)
    (base_folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert check_adapter(make_adapter(), base_folder).rank == 2
    (base_folder / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(AdapterRejected, match=r"index\.json is not readable"):
        check_adapter(make_adapter(), base_folder)


def test_a_file_whose_first_byte_is_that_of_a_pickle_is_still_safetensors(
    make_adapter: Make, base_folder: Path
) -> None:
    folder = make_adapter()
    tensors = load_file(folder / WEIGHTS)
    for padding in range(0, 256, 8):
        save_file(tensors, folder / WEIGHTS, metadata={"pad": "x" * padding})
        if (folder / WEIGHTS).read_bytes()[0] == 0x80:
            break
    assert (folder / WEIGHTS).read_bytes()[0] == 0x80
    assert check_adapter(folder, base_folder).rank == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adapter_model.bin", r"adapter_model\.bin: may run code.*only safetensors"),
        ("optimizer.pt", r"optimizer\.pt: may run code"),
        ("inner/state.pkl", r"inner/state\.pkl: may run code"),
        ("modeling.py", r"modeling\.py: not part of an adapter"),
        ("other.safetensors", r"other\.safetensors: not part of an adapter"),
    ],
)
def test_a_folder_with_other_than_safetensors_weights_is_refused(
    make_adapter: Make, base_folder: Path, name: str, message: str
) -> None:
    folder = make_adapter()
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"x")
    with pytest.raises(AdapterRejected, match=message):
        check_adapter(folder, base_folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"weights": [1.0]}), "a pickle under another name"),
        (b"PK\x03\x04 what torch.save writes", "a pickle under another name"),
        (b"", "not readable"),
        (b"\xff" * 100, "not readable"),
    ],
)
def test_weights_that_are_no_safetensors_are_refused(
    make_adapter: Make, base_folder: Path, content: bytes, message: str
) -> None:
    folder = make_adapter()
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(AdapterRejected, match=f"{WEIGHTS}: only safetensors weights are accepted.*{message}"):
        check_adapter(folder, base_folder)


def test_weights_that_were_cut_off_are_refused(make_adapter: Make, base_folder: Path) -> None:
    folder = make_adapter()
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-4])
    with pytest.raises(AdapterRejected, match="not readable"):
        check_adapter(folder, base_folder)


@pytest.mark.parametrize("name", [WEIGHTS, "adapter_config.json"])
def test_a_missing_file_is_named(make_adapter: Make, base_folder: Path, name: str) -> None:
    folder = make_adapter()
    (folder / name).unlink()
    with pytest.raises(AdapterRejected, match=f"{name}: missing"):
        check_adapter(folder, base_folder)


@pytest.mark.parametrize("content", ["{", "[]", "null", "[" * 100_000, "\ud800"])
def test_a_config_that_is_no_object_is_refused(make_adapter: Make, base_folder: Path, content: str) -> None:
    folder = make_adapter()
    (folder / "adapter_config.json").write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(AdapterRejected, match=r"adapter_config\.json: not"):
        check_adapter(folder, base_folder)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("peft_type", "IA3", "only LORA"),
        ("peft_type", None, "only LORA"),
        ("bias", "all", "only 'none'"),
        ("use_dora", True, "DoRA"),
        ("use_rslora", True, "rank-stabilised scaling"),
        ("modules_to_save", ["lm_head"], "whole modules"),
        ("rank_pattern", {"q_proj": 8}, "another rank"),
        ("trainable_token_indices", [1], "token embeddings"),
        ("r", 0, "the rank must be"),
        ("r", "16", "the rank must be"),
        ("r", True, "the rank must be"),
        ("lora_alpha", None, "a number above 0"),
        ("lora_alpha", -1, "a number above 0"),
        ("target_modules", "all-linear", "a list of module names"),
        ("target_modules", [], "a list of module names"),
        ("target_modules", [1], "a list of module names"),
    ],
)
def test_a_config_that_asks_for_more_than_plain_lora_is_refused(
    make_adapter: Make, base_folder: Path, field: str, value: object, message: str
) -> None:
    with pytest.raises(AdapterRejected, match=rf"adapter_config\.json: {field} is .*{message}"):
        check_adapter(make_adapter(**{field: value}), base_folder)


@pytest.mark.parametrize(
    ("rank", "targets", "message"),
    [
        (2, ("o_proj",), "'o_proj', which the base model lacks; it has down_proj, q_proj, v_proj$"),
        (2, ("q_proj", "embed_tokens"), "'embed_tokens', which the base model lacks"),
        (5, ("q_proj", "v_proj"), r"rank 5 is above 4, the smaller side of the base's model\.layers\.0\.self_attn\.v_"),
    ],
)
def test_a_target_or_rank_that_the_base_lacks_is_refused_before_training(
    base: Base, rank: int, targets: tuple[str, ...], message: str
) -> None:
    with pytest.raises(AdapterRejected, match=message):
        check_targets(rank, targets, base)


def test_targets_of_the_base_may_be_trained(base: Base) -> None:
    check_targets(8, ("q_proj", "down_proj", "layers.1.self_attn.q_proj"), base)


def rewritten(folder: Path, change: Callable[[dict[str, np.ndarray]], None]) -> Path:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    return folder


def zeros(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({f"{FIRST_Q}.lora_A.weight": zeros(3, 8)}, r"lora_A is \[3, 8\]; rank 2 .* needs \[2, 8\]"),
        ({f"{FIRST_Q}.lora_B.weight": zeros(9, 2)}, r"lora_B is \[9, 2\]; rank 2 .* needs \[8, 2\].*another base"),
        ({f"{FIRST_Q}.lora_A.weight": zeros(2, 4, 2)}, r"lora_A is \[2, 4, 2\]"),
        ({f"{FIRST_Q}.lora_A.weight": None}, "q_proj has lora_B only"),
        ({f"{FIRST_Q}.lora_A.weight": zeros(2, 8, dtype=np.float64)}, "is F64; only BF16, F16, F32"),
        ({f"{FIRST_Q}.lora_magnitude_vector": zeros(8)}, "lora_magnitude_vector is not a LoRA weight"),
        ({"base_model.model.lm_head.weight": zeros(32, 8)}, r"lm_head\.weight is not a LoRA weight"),
        (
            {
                f"base_model.model.model.layers.2.self_attn.q_proj.lora_{side}.weight": zeros(*shape)
                for side, shape in (("A", (2, 8)), ("B", (8, 2)))
            },
            r"model\.layers\.2\.self_attn\.q_proj is not a linear module of the base model; is it for another base",
        ),
        (
            {
                f"base_model.model.model.layers.0.mlp.down_proj.lora_{side}.weight": zeros(*shape)
                for side, shape in (("A", (2, 16)), ("B", (8, 2)))
            },
            "down_proj has weights but is not among",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    make_adapter: Make, base_folder: Path, changed: dict[str, np.ndarray | None], message: str
) -> None:
    def change(tensors: dict[str, np.ndarray]) -> None:
        for name, tensor in changed.items():
            if tensor is None:
                del tensors[name]
            else:
                tensors[name] = tensor

    with pytest.raises(AdapterRejected, match=f"{WEIGHTS}: .*{message}"):
        check_adapter(rewritten(make_adapter(), change), base_folder)


def test_a_target_without_weights_is_refused(make_adapter: Make, base_folder: Path) -> None:
    folder = make_adapter(targets=("q_proj",), target_modules=["q_proj", "v_proj"])
    with pytest.raises(AdapterRejected, match="no weights for 'v_proj'"):
        check_adapter(folder, base_folder)


@pytest.mark.parametrize("name", ["support", "a", "v1.2_b-c", "0" * 64])
def test_names_that_fit_a_served_name_and_an_address_are_taken(name: str) -> None:
    check_adapter_name(name)


@pytest.mark.parametrize("name", ["", "Support", "a@1", "a:b", "a/b", "-a", ".a", "a b", "é", "0" * 65, "a\n"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(AdapterRejected, match="adapter name"):
        check_adapter_name(name)
