"""The kinds of models that can be written as GGUF, and the fields of their `config.json` under llama.cpp's keys."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exports.errors import NotExportable


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How llama.cpp names and stores one kind of model."""

    architecture: str
    """Name of the architecture in the file."""
    pairs_rotary: bool
    """Whether neighbours are rotated together, in place of a value of the first half of a head with one of the second.

    Rows of the query and key matrices are reordered for it.
    """


FAMILIES: Final[Mapping[str, Family]] = {
    "llama": Family(architecture="llama", pairs_rotary=True),
    "mistral": Family(architecture="llama", pairs_rotary=True),
    "qwen2": Family(architecture="qwen2", pairs_rotary=False),
    "qwen3": Family(architecture="qwen3", pairs_rotary=False),
}
"""`model_type` -> its family: the models that Lorry's own engine serves."""
_SCALED: Final = ("default", "linear", "yarn", "llama3")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSizes:
    """The parts of a `config.json` that a GGUF file needs."""

    family: Family
    layers: int
    context: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int
    norm_epsilon: float
    vocabulary: int
    ties_embeddings: bool
    rope_theta: float
    rope: Mapping[str, Any]
    """Scaling of the rotary embedding; `rope_type` is `default` for none."""
    end_ids: tuple[int, ...]


def read_sizes(folder: Path) -> ModelSizes:
    """Return the sizes of the model in *folder*; `NotExportable` names what llama.cpp or this converter lacks."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise NotExportable(f"GGUF: models of the kind {kind!r} are not converted, only {', '.join(FAMILIES)}")
    _refuse_odd_parts(config)
    rope = _rope(config)
    heads = int(config["num_attention_heads"])
    ends = config.get("eos_token_id")
    return ModelSizes(
        family=FAMILIES[str(kind)],
        layers=int(config["num_hidden_layers"]),
        context=int(config["max_position_embeddings"]),
        hidden=int(config["hidden_size"]),
        feed_forward=int(config["intermediate_size"]),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or config["hidden_size"] // heads),
        norm_epsilon=float(config["rms_norm_eps"]),
        vocabulary=int(config["vocab_size"]),
        ties_embeddings=bool(config.get("tie_word_embeddings", False)),
        rope_theta=float(rope["rope_theta"]),
        rope=rope,
        end_ids=tuple(ends if isinstance(ends, list) else [] if ends is None else [ends]),
    )


def _refuse_odd_parts(config: Mapping[str, Any]) -> None:
    if "quantization_config" in config:
        raise NotExportable("GGUF: the weights are quantized already; export the checkpoint that they were made of")
    if config.get("use_sliding_window"):
        raise NotExportable("GGUF: use_sliding_window: llama.cpp computes full attention for this kind of model")
    if config.get("hidden_act", "silu") != "silu":
        raise NotExportable(f"GGUF: hidden_act {config['hidden_act']!r}: llama.cpp computes silu for these models")


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rotary embedding's parameters, which older configs have in two fields."""
    found = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    found.setdefault("rope_theta", config.get("rope_theta", 10000.0))
    found["rope_type"] = found.get("rope_type") or found.get("type") or "default"
    if found["rope_type"] not in _SCALED:
        raise NotExportable(f"GGUF: rope_type {found['rope_type']!r} is not converted, only {', '.join(_SCALED)}")
    return found


def rope_factors(sizes: ModelSizes) -> list[float] | None:
    """Return the divisor of each rotary frequency where Llama 3 scales them one by one, else None.

    https://github.com/huggingface/transformers/blob/main/src/transformers/modeling_rope_utils.py
    """
    if sizes.rope["rope_type"] != "llama3":
        return None
    factor = float(sizes.rope["factor"])
    low, high = float(sizes.rope["low_freq_factor"]), float(sizes.rope["high_freq_factor"])
    trained = float(sizes.rope["original_max_position_embeddings"])
    divisors = []
    for at in range(0, sizes.head_dim, 2):
        wavelength = 2 * math.pi * sizes.rope_theta ** (at / sizes.head_dim)
        if wavelength < trained / high:
            divisors.append(1.0)
        elif wavelength > trained / low:
            divisors.append(factor)
        else:
            smooth = (trained / wavelength - low) / (high - low)
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    return divisors
