"""The sizes of a model that decide what it costs, read from its `config.json` and from nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engines.hardware.shape import ModelShape
from engines.quantization import Quantization, quantization_by
from engines.text_config import text_config
from estimates.errors import EstimateError
from estimates.linears import InnerLayers, Linear, attention_linears, optional_size, size_of
from registry.contracts.methods.packing_limits import why_not_packed

_BITS: Final[Mapping[str, tuple[int, str]]] = {
    "float32": (32, "F32"),
    "float16": (16, "F16"),
    "bfloat16": (16, "BF16"),
}
"""`dtype` of a config -> bits of a number, and its name in safetensors."""
_QUERY_BIAS: Final = frozenset({"qwen2", "qwen2_moe", "qwen2_vl_text", "qwen2_5_vl_text", "qwen2_vl", "qwen2_5_vl"})
"""Kinds whose queries, keys and values have a bias that no field of the config names."""
_HEAD_NORMS: Final = frozenset({"qwen3", "qwen3_moe", "gemma3_text", "gemma3"})
"""Kinds that normalise each head of queries and keys."""
_FOUR_NORMS: Final = frozenset({"gemma2", "gemma3", "gemma3_text", "glm4"})
"""Kinds with four norms in a block; others have two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A model by the numbers of its `config.json`."""

    name: str
    model_type: str
    layers: int
    attention_layers: int
    """Layers that attend to all positions and keep keys and values of each."""
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    is_tied: bool
    """Whether the output layer is the embedding again."""
    max_context: int
    linears: tuple[Linear, ...]
    """Linear layers of the blocks, in the order of a forward pass."""
    small: int
    """Numbers in norms, biases and routers."""
    intermediate: int
    """Inner width that a token passes in a layer: of a mixture, that of its experts together."""
    experts: int = 0
    experts_per_token: int = 0
    expert_intermediate: int = 0
    latent_kv: int | None = None
    stored_bits: int = 16
    """Bits of a linear layer's weight in the folder."""
    stored_type: str = "BF16"
    quantization: Quantization | None = None
    """Method and scheme of a checkpoint whose weights are quantized."""
    vision: int = 0
    """Numbers in the part that sees."""
    can_pack: bool = False
    """Whether the trainer may lay several rows into one sequence."""

    @property
    def query_width(self) -> int:
        """Width of all heads together."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of all heads of keys together."""
        return self.kv_heads * self.head_dim

    @property
    def embedding(self) -> int:
        """Numbers in the embedding."""
        return self.vocabulary * self.hidden

    @property
    def head(self) -> int:
        """Numbers in an output layer of its own; 0 where it is the embedding again."""
        return 0 if self.is_tied else self.embedding

    @property
    def linear_weights(self) -> int:
        """Numbers in the linear layers of the blocks, those that are quantized."""
        return sum(linear.weights for linear in self.linears)

    @property
    def active_weights(self) -> int:
        """Numbers of the blocks' linear layers that compute for a token."""
        return sum(linear.inputs * linear.outputs * linear.active for linear in self.linears)

    @property
    def parameters(self) -> int:
        """All numbers of the model."""
        return self.embedding + self.head + self.linear_weights + self.small + self.vision

    @property
    def stored_bytes(self) -> int:
        """Bytes of the checkpoint: embedding, output layer and norms of a quantized one have 16 bits."""
        if self.quantization is None:
            return self.parameters * self.stored_bits // 8
        # A scale and a zero point for each group of 128 weights: 4.25 bits for 4.
        return int(self.linear_weights * (self.stored_bits + 0.25) / 8) + 2 * (self.parameters - self.linear_weights)

    def shape(self) -> ModelShape:
        """Return the shape that the choice of an engine takes."""
        return ModelShape(
            name=self.name,
            model_type=self.model_type,
            parameters=self.parameters,
            weight_bytes=self.stored_bytes,
            stored_bits=self.stored_bits,
            stored_type=self.stored_type,
            quantization=self.quantization,
            layers=self.layers,
            attention_layers=self.attention_layers,
            hidden=self.hidden,
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            intermediate=self.expert_intermediate or self.intermediate,
            vocabulary=self.vocabulary,
            is_tied=self.is_tied,
            max_context=self.max_context,
            experts=self.experts,
            experts_per_token=self.experts_per_token,
            latent_kv=self.latent_kv,
        )


def read_model_config(path: Path) -> ModelConfig:
    """Return the sizes of the model whose folder, or whose `config.json`, is at *path*."""
    file = path / "config.json" if path.is_dir() else path
    try:
        config = json.loads(file.read_bytes())
    except OSError as exc:
        raise EstimateError(f"{file}: {exc.strerror}", "model") from exc
    except ValueError as exc:
        raise EstimateError(f"{file}: is not JSON: {exc}", "model") from exc
    if not isinstance(config, dict):
        raise EstimateError(f"{file}: is not a JSON object, as a model's config.json is", "model")
    return model_config(path.name if path.is_dir() else path.parent.name or path.stem, config)


def model_config(name: str, config: Mapping[str, Any]) -> ModelConfig:
    """Return the sizes in the fields of *config*; `EstimateError` names the field that is missing or no size."""
    text = text_config(config)
    merged = {**text, **{field: config[field] for field in ("model_type", "quantization_config") if field in config}}
    try:
        return _model_config(name, text, config, merged)
    except KeyError as exc:
        raise EstimateError(
            f"{name}: its config.json has no {exc.args[0]!r}; a model that writes text has", "config"
        ) from exc
    except (TypeError, ValueError, AttributeError, ZeroDivisionError) as exc:
        raise EstimateError(f"{name}: a size in its config.json is not a positive whole number", "config") from exc


def _model_config(
    name: str, text: Mapping[str, Any], config: Mapping[str, Any], merged: Mapping[str, Any]
) -> ModelConfig:
    layers, hidden, heads = (size_of(text, key) for key in ("num_hidden_layers", "hidden_size", "num_attention_heads"))
    kv_heads = optional_size(text, "num_key_value_heads") or heads
    head_dim = optional_size(text, "head_dim") or hidden // heads
    inner = InnerLayers.read(text, layers, hidden)
    attention = [*attention_linears(text, layers, hidden, (heads, kv_heads, head_dim))]
    quantized = merged.get("quantization_config")
    bits, stored_type = _BITS.get(
        str(text.get("dtype") or text.get("torch_dtype") or config.get("dtype")), (16, "BF16")
    )
    kind = str(text.get("model_type") or config["model_type"])
    latent = optional_size(text, "kv_lora_rank")
    return ModelConfig(
        name=name,
        model_type=kind,
        layers=layers,
        attention_layers=layers - sum(each == "linear_attention" for each in text.get("layer_types") or ()),
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocabulary=size_of(text, "vocab_size"),
        is_tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
        max_context=optional_size(text, "max_position_embeddings") or 2048,
        linears=(*attention, *inner.linears),
        small=_small(kind, text, layers, attention, (hidden, head_dim)) + inner.routers,
        intermediate=inner.width,
        experts=inner.experts,
        experts_per_token=inner.chosen,
        expert_intermediate=inner.expert_width,
        latent_kv=None if latent is None else latent + size_of(text, "qk_rope_head_dim"),
        stored_bits=_quantized_bits(quantized) if isinstance(quantized, dict) else bits,
        stored_type=stored_type,
        quantization=quantization_by(merged),
        can_pack=why_not_packed(config) is None,
        vision=_vision(config.get("vision_config"), hidden),
    )


def _small(kind: str, text: Mapping[str, Any], layers: int, attention: list[Linear], sizes: tuple[int, int]) -> int:
    """Return the numbers in norms and biases."""
    hidden, head_dim = sizes
    norms = layers * hidden * (4 if kind in _FOUR_NORMS else 2) + hidden
    heads = layers * 2 * head_dim if kind in _HEAD_NORMS else 0
    biased: tuple[str, ...] = ("q_proj", "k_proj", "v_proj") if kind in _QUERY_BIAS else ()
    if text.get("attention_bias"):
        biased = ("q_proj", "k_proj", "v_proj", "o_proj")
    return norms + heads + sum(linear.outputs * linear.count for linear in attention if linear.name in biased)


def _vision(vision: Any, hidden: int) -> int:
    """Return the numbers in the blocks of an encoder of pictures, and in a projection to the model's width."""
    if not isinstance(vision, dict):
        return 0
    depth = optional_size(vision, "num_hidden_layers") or optional_size(vision, "depth") or 0
    width = optional_size(vision, "hidden_size") or optional_size(vision, "embed_dim") or hidden
    inner = optional_size(vision, "intermediate_size") or 4 * width
    return depth * (4 * width * width + 2 * width * inner) + 2 * width * hidden


def _quantized_bits(quantized: Mapping[str, Any]) -> int:
    """Return the bits of a linear weight, wherever the method writes them down."""
    if isinstance(quantized.get("bits"), int):
        return int(quantized["bits"])
    for group in (quantized.get("config_groups") or {}).values():
        if bits := (group.get("weights") or {}).get("num_bits"):
            return int(bits)
    return 8 if quantized.get("quant_method") == "fp8" or quantized.get("load_in_8bit") else 4
