"""The sizes of a base model, read from its `config.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Final

from engines.errors import SettingRefused
from engines.kinds import Hardware, Precision
from engines.quantization import Quantization, quantization_in
from engines.quantized_support import PRECISION_OF
from engines.settings import EngineSettings
from engines.text_config import text_config

GIB: Final = 1024**3
_STORED: Final = {Precision.INT8: "8-bit", Precision.INT4: "4-bit"}
"""Precisions that are those of the base model's folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """The figures that launch flags are computed from; sizes in numbers, not bytes."""

    layers: int
    key_heads: int
    head_size: int
    max_context: int | None
    """Longest context that the model was made for, None when the file does not name one."""
    quantization: Quantization | None
    has_compressed_keys: bool
    """Keys and values are kept in a form of the model's own (multi-head latent attention)."""


def read_base_model(settings: EngineSettings) -> BaseModel:
    """Read the sizes of the base model; `SettingRefused` for another folder, or one without the weights asked for."""
    base = _read(settings.base_path)
    wanted, found = settings.precision, base.quantization
    if wanted in _STORED and (found is None or PRECISION_OF.get(found.scheme) is not wanted):
        raise SettingRefused(
            f"precision = {wanted} needs a base model of {_STORED[wanted]} weights, {settings.base_path} has none"
        )
    return base


def _read(folder: Path) -> BaseModel:
    try:
        config = text_config(json.loads((folder / "config.json").read_text()))
        heads = int(_value(config, "num_attention_heads", "decoder_attention_heads"))
        return BaseModel(
            layers=int(_value(config, "num_hidden_layers", "decoder_layers")),
            key_heads=int(config.get("num_key_value_heads") or heads),
            head_size=int(config.get("head_dim") or _value(config, "hidden_size", "d_model") // heads),
            max_context=config.get("max_position_embeddings") or config.get("max_target_positions"),
            quantization=quantization_in(folder),
            has_compressed_keys="kv_lora_rank" in config,
        )
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise SettingRefused(f"base_path {folder} has no usable config.json: {type(exc).__name__} {exc}") from exc


def _value(config: Mapping[str, Any], field: str, of_decoders: str) -> int:
    """Return a field's value; where a model has an encoder beside its decoder, the decoder's."""
    value: int = config[field] if field in config else config[of_decoders]
    return value


def context_length(settings: EngineSettings, base: BaseModel) -> int:
    """Return the longest sequence that settings and model both allow."""
    return min(settings.max_context, base.max_context or settings.max_context)


def kv_bytes_per_token(settings: EngineSettings, base: BaseModel) -> int:
    """Return the bytes of one token's keys and values on a device: 2 x layers x key heads x head size x bytes.

    `SettingRefused` for models whose keys are of another form.
    """
    if base.has_compressed_keys:
        raise SettingRefused("kv_memory_gib cannot be turned into tokens for a model with compressed keys")
    layers = ceil(base.layers / settings.pipeline_parallel)
    heads = ceil(base.key_heads / settings.tensor_parallel)
    on_cpu = settings.hardware is Hardware.CPU
    number = 4 if on_cpu and settings.precision in (None, Precision.FP32, *_STORED) else 2
    return 2 * layers * heads * base.head_size * number


def kv_tokens(settings: EngineSettings, base: BaseModel, block: int = 1) -> int | None:
    """Return the tokens whose keys and values a device has to hold, in whole blocks; None leaves it to the engine.

    The number is what `kv_memory_gib` has room for, else, on a CPU, a full batch of the longest sequences.
    """
    if settings.kv_memory_gib is not None:
        return int(settings.kv_memory_gib * GIB // (kv_bytes_per_token(settings, base) * block)) * block
    if settings.hardware is Hardware.CPU:
        return settings.max_batch * ceil(context_length(settings, base) / block) * block
    return None


def kv_memory_gib(settings: EngineSettings, base: BaseModel) -> float | None:
    """Return the memory for keys and values on a device, in GiB; None leaves it to the engine."""
    tokens = kv_tokens(settings, base) if settings.kv_memory_gib is None else None
    return settings.kv_memory_gib if tokens is None else tokens * kv_bytes_per_token(settings, base) / GIB


def dtype_precision(settings: EngineSettings) -> Precision | None:
    """Return the precision that a server with `--dtype` is to compute in; None leaves it to the base model's folder."""
    if settings.hardware is Hardware.CPU and settings.precision in (None, *_STORED):
        return Precision.FP32
    return settings.precision
