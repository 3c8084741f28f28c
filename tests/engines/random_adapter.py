"""Random but effective LoRA adapters in PEFT's format, for any model of the Llama kind."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoConfig


def write_adapter(
    folder: Path,
    model: Path,
    seed: int,
    *,
    rank: int = 16,
    rank_pattern: Mapping[str, int] | None = None,
    strength: float = 0.01,
    **extra: Any,
) -> Path:
    """An adapter on every linear layer of the blocks; *extra* goes into adapter_config.json."""
    source, tensors = torch.Generator().manual_seed(seed), {}
    shapes, ranks = layer_shapes(model), rank_pattern or {}
    for name, (size_in, size_out) in shapes.items():
        prefix = f"base_model.model.{name}"
        own = next((value for key, value in ranks.items() if re.fullmatch(rf"(.*\.)?({key})", name)), rank)
        tensors[f"{prefix}.lora_A.weight"] = torch.randn(own, size_in, generator=source) * size_in**-0.5
        tensors[f"{prefix}.lora_B.weight"] = torch.randn(size_out, own, generator=source) * strength
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 32, "bias": "none"}
    targets = sorted({name.rpartition(".")[2] for name in shapes})
    pattern = {"rank_pattern": dict(ranks)} if ranks else {}
    (folder / "adapter_config.json").write_text(json.dumps({**settings, "target_modules": targets, **pattern, **extra}))
    return folder


def layer_shapes(model: Path) -> dict[str, tuple[int, int]]:
    """Layer -> (in, out) of the linear layers in the blocks."""
    config = AutoConfig.from_pretrained(model).to_dict()
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    size = config.get("head_dim") or hidden // config["num_attention_heads"]
    heads, keys = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
    shapes = {
        "self_attn.q_proj": (hidden, heads),
        "self_attn.k_proj": (hidden, keys),
        "self_attn.v_proj": (hidden, keys),
        "self_attn.o_proj": (heads, hidden),
        "mlp.gate_proj": (hidden, inner),
        "mlp.up_proj": (hidden, inner),
        "mlp.down_proj": (inner, hidden),
    }
    blocks = range(config["num_hidden_layers"])
    return {f"model.layers.{block}.{name}": shape for block in blocks for name, shape in shapes.items()}
