"""Load the base model for a recipe, and list the versions of the libraries that compute."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Final

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from trainer.errors import JobFailed

VERSIONS_OF: Final = ("torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors")


def load_base(folder: Path) -> PreTrainedModel:
    """Return the base model: float32 on a CPU (most CPUs emulate bfloat16), else bfloat16."""
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    try:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    except (OSError, ValueError) as exc:
        raise JobFailed("base_unreadable", f"the base model cannot be loaded: {exc}", "model") from exc


def library_versions() -> dict[str, str]:
    """Return library -> version, for the libraries that the result depends on."""
    return {name: version(name) for name in VERSIONS_OF}
