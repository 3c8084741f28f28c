"""The shape of a model is read from its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from engines.base_task import BaseTask
from engines.errors import ModelUnreadable
from engines.hardware.shape import read_shape
from tests.tiny_encoder import save_encoder, save_reranker

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "hidden_size": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 10,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}


def folder(path: Path, config: dict[str, Any], **tensors: torch.Tensor) -> Path:
    (path / "config.json").write_text(json.dumps(config))
    half = len(tensors) // 2
    names = list(tensors)
    for number, part in enumerate((names[:half], names[half:])):
        save_file({name: tensors[name] for name in part}, path / f"model-{number}.safetensors")
    return path


def zeros(*size: int, kind: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.zeros(*size, dtype=kind)


def test_parameters_and_bytes_are_those_of_all_files(tmp_path: Path) -> None:
    shape = read_shape(
        folder(tmp_path, LLAMA, embed=zeros(10, 8), layer=zeros(16, 8), norm=zeros(8, kind=torch.float32))
    )
    assert (shape.parameters, shape.weight_bytes) == (80 + 128 + 8, 2 * 208 + 4 * 8)
    assert (shape.stored_bits, shape.stored_type) == (16, "BF16")
    assert (shape.layers, shape.hidden, shape.heads, shape.kv_heads, shape.head_dim) == (2, 8, 4, 2, 2)
    assert (shape.is_tied, shape.max_context, shape.quantization, shape.experts) == (True, 64, None, 0)


def test_of_a_mixture_the_experts_are_read(tmp_path: Path) -> None:
    mixture = LLAMA | {
        "model_type": "qwen3_moe",
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 4,
        "head_dim": 16,
        "layer_types": ["linear_attention", "full_attention"],
    }
    shape = read_shape(folder(tmp_path, mixture, a=zeros(1), b=zeros(1)))
    assert (shape.experts, shape.experts_per_token, shape.intermediate, shape.head_dim) == (8, 2, 4, 16)
    assert shape.attention_layers == 1


def test_the_text_part_of_a_model_with_images_counts(tmp_path: Path) -> None:
    shape = read_shape(folder(tmp_path, {"model_type": "seeing", "text_config": LLAMA}, a=zeros(1), b=zeros(1)))
    assert (shape.model_type, shape.layers, shape.is_tied) == ("seeing", 2, True)


def test_latent_attention_is_read(tmp_path: Path) -> None:
    latent = LLAMA | {"kv_lora_rank": 512, "qk_rope_head_dim": 64}
    assert read_shape(folder(tmp_path, latent, a=zeros(1), b=zeros(1))).latent_kv == 576


@pytest.mark.parametrize(
    ("written", "method", "bits"),
    [
        ({"quant_method": "awq", "bits": 4}, "awq", 4),
        ({"quant_method": "fp8"}, "fp8", 8),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 4}}}},
            "compressed-tensors",
            4,
        ),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 8}}}},
            "compressed-tensors",
            8,
        ),
    ],
)
def test_a_quantized_checkpoint_tells_method_and_bits(
    tmp_path: Path, written: dict[str, Any], method: str, bits: int
) -> None:
    packed = folder(tmp_path, LLAMA | {"quantization_config": written}, a=zeros(4, kind=torch.int32), b=zeros(1))
    shape = read_shape(packed)
    assert shape.quantization is not None
    assert (shape.quantization.method, shape.stored_bits, shape.weight_bytes) == (method, bits, 18)


def test_a_folder_that_cannot_be_read_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelUnreadable, match=r"no config\.json"):
        read_shape(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelUnreadable):
        read_shape(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    with pytest.raises(ModelUnreadable, match="no weights"):
        read_shape(tmp_path)
    folder(tmp_path, {"model_type": "bert"}, a=zeros(1), b=zeros(1))
    with pytest.raises(ModelUnreadable, match="'num_attention_heads'"):
        read_shape(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    (tmp_path / "model-0.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(ModelUnreadable, match="not a safetensors file"):
        read_shape(tmp_path)


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_an_encoder_is_read_under_the_names_of_its_kind(tmp_path: Path, kind: str) -> None:
    shape = read_shape(save_encoder(tmp_path, kind))
    assert (shape.task, shape.layers, shape.hidden, shape.heads, shape.intermediate) == (BaseTask.EMBED, 2, 32, 2, 48)
    assert read_shape(save_reranker(tmp_path, kind)).task is BaseTask.RANK
