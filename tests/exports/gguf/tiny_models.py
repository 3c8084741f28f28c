"""Tiny random models of every kind that is written as GGUF, with a tokenizer that has merges."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from tests.trainer.tiny_base import SPECIAL, save_tokenizer

MERGES: Final = (("h", "e"), ("l", "l"), ("he", "ll"))
SIZES: Final[Mapping[str, Any]] = {
    "vocab_size": len(SPECIAL) + 256 + len(MERGES),
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
KINDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "llama": {},
    "mistral": {},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"head_dim": 128},
}
"""`model_type` -> what its config has besides the sizes."""


def save_tiny(folder: Path, kind: str, **fields: Any) -> PreTrainedModel:
    """Write a model of this kind to *folder*, with random norms and biases too, and return it."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SIZES, **KINDS[kind], **fields})).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight.data, std=0.2 if weight.dim() > 1 else 1.0)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    path = folder / "tokenizer.json"
    stored = json.loads(path.read_text())
    for left, right in MERGES:
        stored["model"]["vocab"][left + right] = len(stored["model"]["vocab"])
        stored["model"]["merges"].append([left, right])
    path.write_text(json.dumps(stored))
    return model
