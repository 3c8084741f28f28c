"""The base model as recipes load it, and the versions of what computes."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Final

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from trainer.errors import JobFailed

VERSIONS_OF: Final = ("torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors")


def load_base(folder: Path) -> PreTrainedModel:
    """The base model, frozen weights only: float32 on a CPU (bfloat16 is emulated on most), else bfloat16."""
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    try:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    except (OSError, ValueError) as exc:
        raise JobFailed("base_unreadable", f"the base model cannot be loaded: {exc}", "model") from exc


def library_versions() -> dict[str, str]:
    """Library -> version, for what the result depends on."""
    return {name: version(name) for name in VERSIONS_OF}
