"""Which base models keep rows apart that lie in one sequence; see `trainer.data.packing`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

FULL_ATTENTION: Final = frozenset(
    {"gemma", "granite", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"}
)
"""Kinds of models for which the layouts were seen to be equal, as long as no layer limits attention to a window."""
_FULL: Final = "full_attention"


def why_not_packed(config: Mapping[str, Any]) -> str | None:
    """Return why rows cannot lie in one sequence for a model with the fields *config*; None if they can."""
    kind = config.get("model_type")
    if kind not in FULL_ATTENTION:
        return f"models of the kind {kind} are not known to keep packed rows apart"
    has_window = config.get("sliding_window") is not None and config.get("use_sliding_window", True)
    if has_window or set(config.get("layer_types") or [_FULL]) != {_FULL}:
        return "the base model limits attention to a window"
    return None


def read_why_not_packed(folder: Path) -> str | None:
    """Return why not for the model in *folder*; None too where its config cannot be read, which the trainer reports."""
    try:
        config: Any = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    return why_not_packed(config) if isinstance(config, dict) else None
