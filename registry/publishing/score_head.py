"""The folder of a reward model: a normalised LoRA adapter, and the score head that turns a hidden state into a score.

The score of a chat is `hidden @ weight[0]`, hidden the last layer's normalised state of the chat's last token, computed
with the adapter. Read with numpy only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import numpy as np

from registry.errors import AdapterRejected
from registry.publishing.adapter_weights import Matrix
from registry.publishing.checks import AdapterShape, check_adapter
from registry.publishing.tensor_files import FLOATS, read_shapes, read_tensors
from registry.types import Base

SCORE_HEAD: Final = "score_head.safetensors"
SCORE_WEIGHT: Final = "score.weight"
"""The only tensor of the file: [1, hidden size]."""


def check_reward_model(folder: Path, base: Base) -> AdapterShape:
    """Return the shape of a reward model's adapter; `AdapterRejected` names file or tensor."""
    shape = check_adapter(folder, Path(base.path), beside=(SCORE_HEAD,))
    if not (folder / SCORE_HEAD).is_file():
        raise AdapterRejected(f"{SCORE_HEAD}: missing; a reward model needs the head that computes its scores")
    hidden = _hidden_size(Path(base.path))
    found = read_shapes([folder / SCORE_HEAD], FLOATS)
    if found != {SCORE_WEIGHT: (1, hidden)}:
        there = {name: list(tensor) for name, tensor in found.items()}
        raise AdapterRejected(f"{SCORE_HEAD}: has {there}; this base model needs {SCORE_WEIGHT} of {[1, hidden]} alone")
    ((_, dtype, bits),) = read_tensors(folder / SCORE_HEAD)
    head = Matrix(bits=bits, dtype=dtype)
    if not np.isfinite(head.widened()).all():
        raise AdapterRejected(f"{SCORE_HEAD}: {SCORE_WEIGHT} has values that are not finite (NaN or infinity)")
    if not head.is_nonzero().any():
        raise AdapterRejected(f"{SCORE_HEAD}: {SCORE_WEIGHT} is zero: every chat would have the score 0")
    return shape


def _hidden_size(base_folder: Path) -> int:
    try:
        config = json.loads((base_folder / "config.json").read_bytes())
        return int(config.get("hidden_size") or config["text_config"]["hidden_size"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise AdapterRejected(f"base model {base_folder}: config.json names no hidden_size") from exc
