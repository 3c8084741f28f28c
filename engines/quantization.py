"""The quantization of a checkpoint, by the `quantization_config` in its `config.json`. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final


class Scheme(StrEnum):
    """The numbers that weights and activations of quantized layers are held in."""

    W8A8_INT8 = "w8a8-int8"  # weights and activations in int8
    W8A16 = "w8a16"  # weights in int8
    W4A16 = "w4a16"  # weights in 4 bits
    FP8 = "fp8"  # weights in 8-bit floats, activations usually too


COMPRESSED: Final = "compressed-tensors"
"""The method, and the format of files, of llm-compressor."""
_OF_PAIR: Final[Mapping[tuple[object, ...], Scheme]] = {
    ("int", 8, "int", 8): Scheme.W8A8_INT8,
    ("int", 8, None, None): Scheme.W8A16,
    ("int", 4, None, None): Scheme.W4A16,
    ("float", 8, "float", 8): Scheme.FP8,
    ("float", 8, None, None): Scheme.FP8,
}
_STRATEGIES: Final = frozenset({"tensor", "channel", "group"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """The method and the scheme of a quantized checkpoint."""

    method: str
    """`quant_method` of its configuration: `compressed-tensors`, `gptq`, `awq`, `fp8` and others."""
    scheme: Scheme | None
    """None for numbers that none of the schemes has."""
    oddity: str = ""
    """The part of the configuration, with its value, that plain checkpoints of the scheme do not have."""

    @property
    def label(self) -> str:
        """The words by which messages name it."""
        return f"{self.scheme or 'other'} weights ({self.method})" if not self.oddity else self.oddity


def quantization_in(folder: Path) -> Quantization | None:
    """Return how the checkpoint in *folder* is quantized; None for a full one, and where no configuration is read."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    return quantization_by(config) if isinstance(config, dict) else None


def quantization_by(config: Mapping[str, Any]) -> Quantization | None:
    """Return the quantization that this `config.json` describes; None where it describes none."""
    text = config.get("text_config")
    found = config.get("quantization_config") or (text.get("quantization_config") if isinstance(text, dict) else None)
    if not isinstance(found, dict):
        return None
    method = str(found.get("quant_method") or "unnamed")
    if method == COMPRESSED:
        return _of_groups(found)
    if method in {"gptq", "awq"}:
        return _of_plain(method, found)
    if method == "fp8":
        blocks = "weight_block_size" if found.get("weight_block_size") else ""
        return Quantization(method=method, scheme=Scheme.FP8, oddity=blocks and f"{method} with {blocks}")
    return Quantization(method=method, scheme=None)


def _of_plain(method: str, found: Mapping[str, Any]) -> Quantization:
    """Return the quantization of a folder that GPTQ's or AWQ's own tools wrote."""
    bits = found.get("bits", found.get("w_bit", 4))
    if bits != 4:
        return Quantization(method=method, scheme=None, oddity=f"{method} with {bits} bits")
    layout = str(found.get("version") or found.get("checkpoint_format") or "").lower()
    plain = {"awq": ("", "gemm"), "gptq": ("", "gptq", "gptq_v2")}[method]
    return Quantization(
        method=method, scheme=Scheme.W4A16, oddity="" if layout in plain else f"{method} in the layout {layout!r}"
    )


def _of_groups(found: Mapping[str, Any]) -> Quantization:
    groups = [group for group in (found.get("config_groups") or {}).values() if isinstance(group, dict)]
    schemes = {_scheme_of(group) for group in groups}
    scheme = schemes.pop() if len(schemes) == 1 else None
    return Quantization(method=COMPRESSED, scheme=scheme, oddity=next(_oddities(found, groups, scheme), ""))


def _scheme_of(group: Mapping[str, Any]) -> Scheme | None:
    weights, inputs = group.get("weights") or {}, group.get("input_activations") or {}
    return _OF_PAIR.get((weights.get("type"), weights.get("num_bits"), inputs.get("type"), inputs.get("num_bits")))


def _oddities(found: Mapping[str, Any], groups: Sequence[Mapping[str, Any]], scheme: Scheme | None) -> Iterator[str]:
    """Yield what is beside plain quantized weights, in words."""
    if scheme is None:
        several = " or ".join(sorted({_numbers_of(group) for group in groups})) or "no config_groups"
        yield f"{COMPRESSED} with {several}"
    for field in ("kv_cache_scheme", "sparsity_config", "transform_config"):
        value = found.get(field)
        if value and not (isinstance(value, dict) and value.get("format") == "dense"):
            yield f"{COMPRESSED} with {field}"
    for group in groups:
        inputs, weights = group.get("input_activations"), group.get("weights") or {}
        if group.get("output_activations"):
            yield f"{COMPRESSED} with output_activations"
        if inputs and not inputs.get("dynamic"):
            yield f"{COMPRESSED} with activations of a fixed scale (input_activations.dynamic is false)"
        if weights.get("strategy") not in _STRATEGIES:
            yield f"{COMPRESSED} with weights.strategy {weights.get('strategy')!r}"


def _numbers_of(group: Mapping[str, Any]) -> str:
    weights, inputs = group.get("weights") or {}, group.get("input_activations")
    activations = f"{inputs.get('num_bits')}-bit {inputs.get('type')}" if inputs else "full"
    return f"{weights.get('num_bits')}-bit {weights.get('type')} weights and {activations} activations"
