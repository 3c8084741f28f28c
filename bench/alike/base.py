"""A base model with random weights that every kind of engine serves, with a real engine's costs at a small size.

A prompt of a thousand tokens takes several times as long as its answer, so that it matters whether an engine has it in
its cache.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from tests.engines.random_adapter import write_adapter
from tests.trainer.tiny_base import SPECIAL, save_tokenizer

POSITIONS: Final = 2048


def save_base(folder: Path) -> None:
    """Write the base model as a Hugging Face folder."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(SPECIAL) + 256,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,  # heads of 32 numbers are the smallest that vLLM computes on a CPU
        num_key_value_heads=2,
        max_position_embeddings=POSITIONS,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    GenerationConfig(eos_token_id=2).save_pretrained(folder)
    save_tokenizer(folder)


def save_adapter(folder: Path, base: Path) -> None:
    """Write an adapter for it."""
    write_adapter(folder, base, seed=1, rank=8)
