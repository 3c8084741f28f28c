"""Estimates for GPUs are held against published figures, each with its source and the tolerance that it is met within.

What was published is what `nvidia-smi` shows of other trainers on the same models, so no figure is met exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest

from engines.hardware.memory import kv_bytes_per_token, weight_bytes
from engines.kinds import Precision
from estimates.data_shape import DataShape
from estimates.devices import known_device
from estimates.model_config import ModelConfig, model_config
from estimates.training import TrainingEstimate, estimate_training
from tests.estimates.models import HALF_B, MIXTURE, SEVEN_B, SEVENTY_TWO_B, THIRTY_TWO_B, config_of, spec_of

GB: Final = 10**9
AWQ: Final[dict[str, Any]] = {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}
ATTENTION: Final = ("q_proj", "k_proj", "v_proj", "o_proj")


def qwen1(layers: int, hidden: int, heads: int, intermediate: int) -> ModelConfig:
    """A model of the first Qwen: every head has keys of its own, and the output layer is another than the embedding."""
    return model_config("qwen", config_of("llama", (layers, hidden, heads, heads, intermediate, 151936)))


QWEN: Final[Mapping[str, ModelConfig]] = {
    "1.8B": qwen1(24, 2048, 16, 5504),
    "7B": qwen1(32, 4096, 32, 11008),
    "14B": qwen1(40, 5120, 40, 13696),
    "72B": qwen1(80, 8192, 64, 24576),
}
LENGTHS: Final = (256, 512, 1024, 2048, 4096)
QWEN_README: Final[Sequence[tuple[str, str, float, tuple[float, ...]]]] = (
    ("1.8B", "lora", 0.11, (6.7, 7.4, 8.4, 11.0, 16.2)),
    ("7B", "lora", 0.05, (20.1, 20.4, 21.5, 23.8, 29.7)),
    ("14B", "lora", 0.06, (34.6, 35.1, 35.3, 37.4, 42.5)),
    ("1.8B", "qlora", 0.30, (5.8, 6.0, 6.6, 7.8, 10.2)),
    ("7B", "qlora", 0.18, (11.5, 11.5, 12.3, 13.9, 16.9)),
    ("14B", "qlora", 0.20, (18.7, 18.4, 18.9, 19.9, 23.0)),
    ("72B", "qlora", 0.10, (61.4, 61.4, 62.9, 64.1, 68.0)),
)
"""github.com/QwenLM/Qwen, README, "Profiling of Memory and Speed": GB on an A100 of 80 GB, rows of `LENGTHS` tokens.

Batch 1, LoRA 64, gradient checkpointing, as its `finetune` scripts have them; Q-LoRA is on 4-bit GPTQ weights there.
"""


def trained(model: ModelConfig, length: int, **hyperparameters: Any) -> TrainingEstimate:
    spec = spec_of(batch_size=1, gradient_checkpointing=True, **hyperparameters)
    return estimate_training(model, spec, DataShape.even(100, length, length - 1), known_device("a100-80"))


@pytest.mark.parametrize(("size", "weights", "tolerance", "published"), QWEN_README)
def test_lora_and_qlora_take_what_qwen_measured(
    size: str, weights: str, tolerance: float, published: tuple[float, ...]
) -> None:
    made = [trained(QWEN[size], length, weights=weights, lora_rank=64).peak_bytes / GB for length in LENGTHS]
    errors = [one / other - 1 for one, other in zip(made, published, strict=True)]
    assert all(abs(error) <= tolerance for error in errors), errors


@pytest.mark.parametrize(
    ("config", "weights", "published"),
    [
        (SEVEN_B, "lora", 16),
        (SEVEN_B, "full", 120),
        (THIRTY_TWO_B, "qlora", 24),
        (THIRTY_TWO_B, "lora", 64),
        (THIRTY_TWO_B, "full", 600),
        (SEVENTY_TWO_B, "qlora", 48),
        (SEVENTY_TWO_B, "lora", 160),
        (SEVENTY_TWO_B, "full", 1200),
    ],
)
def test_methods_take_what_llama_factory_tells(config: dict[str, Any], weights: str, published: int) -> None:
    # github.com/hiyouga/LLaMA-Factory, README, "Hardware Requirement", in GB and rough. Within 25 %.
    made = trained(model_config("model", config), 512, weights=weights).peak_bytes / GB
    assert made == pytest.approx(published, rel=0.25)


def test_qlora_trains_65_billion_weights_on_a_gpu_of_48_gb() -> None:
    # Dettmers et al. 2023, QLoRA (arXiv:2305.14314), abstract. With LoRA 16 here: there the states of LoRA 64 may be in
    # the host's memory.
    llama = model_config("llama-65b", config_of("llama", (80, 8192, 64, 64, 22016, 32000)))
    device = known_device("a6000")
    spec = spec_of(batch_size=1, gradient_checkpointing=True, weights="qlora")
    assert estimate_training(llama, spec, DataShape.even(100, 512), device).fits
    plain = spec_of(batch_size=1, gradient_checkpointing=True)
    assert not estimate_training(llama, plain, DataShape.even(100, 512), device).fits


def test_qlora_of_a_mixture_takes_what_unsloth_tells() -> None:
    # docs.unsloth.ai, Qwen3: "Qwen3-30B-A3B works on just 17.5GB VRAM". Within 15 %.
    made = trained(model_config("mixture", MIXTURE), 512, weights="qlora", target_modules=[*ATTENTION])
    assert made.peak_bytes / GB == pytest.approx(17.5, rel=0.15)


@pytest.mark.parametrize(
    ("config", "prompt", "published"),
    [
        (HALF_B, 1, 0.97),
        (SEVENTY_TWO_B, 1, 136.20),
        (SEVENTY_TWO_B, 6144, 140.00),
        (SEVENTY_TWO_B | AWQ, 1, 39.44),
        (SEVENTY_TWO_B | AWQ, 6144, 42.13),
    ],
)
def test_weights_with_keys_and_values_take_what_qwen_measured(
    config: dict[str, Any], prompt: int, published: float
) -> None:
    # github.com/QwenLM/Qwen2.5, docs/source/benchmark/speed_benchmark.rst: GiB that transformers took for a prompt and
    # 2,048 tokens of an answer. Within 4 %.
    shape = model_config("model", config).shape()
    taken = weight_bytes(shape, Precision.BF16) + (prompt + 2048) * kv_bytes_per_token(shape, Precision.BF16)
    assert taken / 2**30 == pytest.approx(published, rel=0.04)
