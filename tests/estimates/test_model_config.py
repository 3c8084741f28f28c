"""The sizes that a config says are those of the published checkpoints."""

from __future__ import annotations

from typing import Any

import pytest

from estimates.errors import EstimateError
from estimates.model_config import model_config
from tests.engines.hardware import machines
from tests.estimates.models import HALF_B, MIXTURE, SEVEN_B, SEVENTY_TWO_B, SMOL, THIRTY_TWO_B, config_of


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (SMOL, 134_515_008),
        (HALF_B, machines.HALF_B.parameters),
        (SEVEN_B, machines.SEVEN_B.parameters),
        (THIRTY_TWO_B, machines.THIRTY_TWO_B.parameters),
        (SEVENTY_TWO_B, machines.SEVENTY_TWO_B.parameters),
        (MIXTURE, machines.MIXTURE.parameters),
    ],
)
def test_the_numbers_of_a_model_are_those_of_its_checkpoint(config: dict[str, Any], parameters: int) -> None:
    assert model_config("model", config).parameters == parameters


def test_of_a_mixture_the_chosen_experts_alone_compute() -> None:
    mixture = model_config("mixture", MIXTURE)
    # 48 x (8 experts x 3 x 2,048 x 768 + attention of 2,048 x (2 x 4,096 + 2 x 512))
    assert mixture.active_weights == 48 * (8 * 3 * 2048 * 768 + 2048 * (2 * 4096 + 2 * 512))
    assert mixture.linear_weights > 8 * mixture.active_weights


def test_a_config_without_a_size_is_refused_with_its_name() -> None:
    lacking = {name: value for name, value in SMOL.items() if name != "hidden_size"}
    with pytest.raises(EstimateError, match="hidden_size"):
        model_config("model", lacking)


@pytest.mark.parametrize("size", [0, -1, "many", 1.5, True])
def test_a_size_that_is_none_is_refused(size: Any) -> None:
    with pytest.raises(EstimateError, match="positive whole number"):
        model_config("model", SMOL | {"num_hidden_layers": size})


@pytest.mark.parametrize(
    "fields",
    [
        {"quantization_config": {"config_groups": [1]}},
        {"num_experts": 8, "n_shared_experts": "x", "moe_intermediate_size": 2**30},
        {"layer_types": 5},
        {"vision_config": {"num_hidden_layers": "x"}},
        {"first_k_dense_replace": "x", "num_experts": 8},
    ],
)
def test_a_field_that_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(EstimateError):
        model_config("model", SMOL | fields)


def test_the_model_in_a_config_of_one_that_sees_is_found() -> None:
    inner = config_of("qwen2", (24, 896, 14, 2, 4864, 151936), tie_word_embeddings=True)
    seeing = {"model_type": "llava", "text_config": inner, "tie_word_embeddings": True}
    assert model_config("seeing", seeing).parameters == machines.HALF_B.parameters
