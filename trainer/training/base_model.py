"""Load the base model for a recipe, and list the versions of the libraries that compute."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedModel

from registry.contracts.pictures.vision_base import is_vision_base
from trainer.errors import JobFailed

VERSIONS_OF: Final = ("torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors")
OPTIONAL: Final = ("bitsandbytes", "deepspeed")


def load_base(folder: Path, *, dtype: torch.dtype | None = None, quantization: Any = None) -> PreTrainedModel:
    """Return the base model in *dtype*; by default float32 on a CPU (most CPUs emulate bfloat16), else bfloat16.

    *quantization* is a config of transformers for weights that are quantized as they are loaded.
    """
    usual = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    try:
        kind = AutoModelForImageTextToText if is_vision_base(folder) else AutoModelForCausalLM
        return kind.from_pretrained(
            folder, dtype=dtype or usual, local_files_only=True, quantization_config=quantization
        )
    except (OSError, ValueError) as exc:
        raise JobFailed("base_unreadable", f"the base model cannot be loaded: {exc}", "model") from exc


def library_versions() -> dict[str, str]:
    """Return library -> version, for the libraries that the result depends on."""
    used = [*VERSIONS_OF, *(name for name in OPTIONAL if sys.modules.get(name) is not None)]
    return {name: version(name) for name in used}
