"""The language model of a model that sees is read from the nested part of its config."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import CONFIG_MAPPING

from engines.drivers.base_model import read_base_model
from engines.hardware.shape import read_shape
from engines.kinds import Hardware
from engines.settings import EngineSettings
from engines.text_config import DEFAULTS, NESTED, text_config


@pytest.mark.parametrize("kind", DEFAULTS)
def test_what_a_nested_config_leaves_out_is_what_transformers_fills_in(kind: str) -> None:
    own = CONFIG_MAPPING[kind]()
    assert {name: getattr(own, name) for name in DEFAULTS[kind]} == DEFAULTS[kind]
    # Values that follow from others are computed, so they are not in the table.
    left = {"num_key_value_heads": own.num_attention_heads, "head_dim": own.hidden_size // own.num_attention_heads}
    for name in left.keys() - DEFAULTS[kind].keys():
        assert getattr(own, name) == left[name]


@pytest.mark.parametrize("nested", NESTED)
def test_a_model_that_sees_has_the_sizes_of_its_language_model(nested: str, tmp_path: Path) -> None:
    config = {
        "model_type": "llava",
        nested: {"model_type": "llama", "num_hidden_layers": 3, "num_attention_heads": 16},
        "vision_config": {"model_type": "clip_vision_model", "num_hidden_layers": 24, "hidden_size": 1024},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"weight": torch.zeros(4)}, tmp_path / "model.safetensors")
    shape = read_shape(tmp_path)
    assert (shape.model_type, shape.layers, shape.heads, shape.hidden) == ("llava", 3, 16, 4096)
    settings = EngineSettings(
        kind="vllm", base_path=tmp_path, base_name="seer", hardware=Hardware.CPU, log_path=tmp_path / "log"
    )
    base = read_base_model(settings)
    assert (base.layers, base.key_heads, base.head_size, base.max_context) == (3, 16, 256, 2048)


def test_a_config_that_nests_nothing_is_its_own() -> None:
    plain = {"model_type": "llama", "hidden_size": 8}
    assert text_config(plain) is plain
