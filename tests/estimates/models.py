"""Configs of models, as their `config.json` has them, and specs of jobs on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from engines.hardware.machine import GB
from estimates.devices import ComputeDevice
from estimates.model_config import ModelConfig, model_config
from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.job_kinds import FINE_TUNING_METHODS


def config_of(kind: str, sizes: tuple[int, int, int, int, int, int], **fields: Any) -> dict[str, Any]:
    """*sizes*: layers, hidden, heads, kv heads, intermediate, vocabulary."""
    layers, hidden, heads, kv_heads, intermediate, vocabulary = sizes
    return {
        "model_type": kind,
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": intermediate,
        "vocab_size": vocabulary,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        **fields,
    }


SMOL: Final = config_of("llama", (30, 576, 9, 3, 1536, 49152), tie_word_embeddings=True, max_position_embeddings=8192)
HALF_B: Final = config_of("qwen2", (24, 896, 14, 2, 4864, 151936), tie_word_embeddings=True)
SEVEN_B: Final = config_of("qwen2", (28, 3584, 28, 4, 18944, 152064))
THIRTY_TWO_B: Final = config_of("qwen2", (64, 5120, 40, 8, 27648, 152064))
SEVENTY_TWO_B: Final = config_of("qwen2", (80, 8192, 64, 8, 29568, 152064))
MIXTURE: Final = config_of(
    "qwen3_moe",
    (48, 2048, 32, 4, 6144, 151936),
    head_dim=128,
    num_experts=128,
    num_experts_per_tok=8,
    moe_intermediate_size=768,
    decoder_sparse_step=1,
    mlp_only_layers=[],
    max_position_embeddings=40960,
)
CPU: Final = ComputeDevice(name="cpu", memory_bytes=24 * GB, flops=160e9, is_processor=True, has_bf16=False)


def smol() -> ModelConfig:
    return model_config("smol", SMOL)


def spec_of(
    method: str = "supervised", rows: int = 100, options: Mapping[str, Any] | None = None, **hyperparameters: Any
) -> FineTuneSpec:
    kind = FINE_TUNING_METHODS[method]
    asked = kind.options_as.model_validate({**(options or {}), "hyperparameters": hyperparameters})
    fields = {"n_epochs": 1} | dict(kind.resolve(asked, rows)) | {"training_file": "file-1"}
    return kind(base="base", base_digest="0" * 64, adapter="a", seed=1, **fields)
