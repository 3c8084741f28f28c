"""The linear layers in the blocks of a model, by the fields of its config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

_PLAIN_INNER: Final = frozenset({"gpt2", "gpt_neox", "opt", "phi", "falcon", "starcoder2", "bloom", "gptj", "mpt"})
"""Kinds whose feed-forward part has two linear layers; others have three, of which one is a gate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A kind of linear layer: its name, its widths, and how often the model has it."""

    name: str
    inputs: int
    outputs: int
    count: int
    active: int
    """How many of them a token passes: all, or of experts the chosen ones."""

    @property
    def weights(self) -> int:
        """All weights of this kind of layer."""
        return self.inputs * self.outputs * self.count


def size_of(fields: Mapping[str, Any], name: str) -> int:
    """Return a positive whole number; `KeyError` if it is missing, `ValueError` if it is something else."""
    value = fields[name]
    if isinstance(value, list):  # a size for each layer
        value = max(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**40:
        raise ValueError(name)
    return value


def optional_size(fields: Mapping[str, Any], name: str) -> int | None:
    """Return a positive whole number, None if it is missing; `ValueError` if it is something else."""
    return None if fields.get(name) is None else size_of(fields, name)


def attention_linears(
    text: Mapping[str, Any], layers: int, hidden: int, heads: tuple[int, int, int]
) -> Iterator[Linear]:
    """Yield the linear layers of attention; those of DeepSeek's compress queries and keys first."""
    count, kv_count, head_dim = heads
    if (latent := optional_size(text, "kv_lora_rank")) is not None:
        yield from _latent_attention(text, layers, hidden, (count, latent))
        return
    widths = {
        "q_proj": (hidden, count * head_dim),
        "k_proj": (hidden, kv_count * head_dim),
        "v_proj": (hidden, kv_count * head_dim),
        "o_proj": (count * head_dim, hidden),
    }
    for name, (inputs, outputs) in widths.items():
        yield Linear(name=name, inputs=inputs, outputs=outputs, count=layers, active=layers)


def _latent_attention(text: Mapping[str, Any], layers: int, hidden: int, sizes: tuple[int, int]) -> Iterator[Linear]:
    """Yield the layers of multi-head latent attention: section 2.1 of DeepSeek-V2 (arXiv:2405.04434)."""
    heads, latent = sizes
    rope, plain, value = (size_of(text, key) for key in ("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"))
    queries = heads * (rope + plain)
    compressed = optional_size(text, "q_lora_rank")
    widths = {
        "kv_a_proj_with_mqa": (hidden, latent + rope),
        "kv_b_proj": (latent, heads * (plain + value)),
        "o_proj": (heads * value, hidden),
    }
    if compressed is None:
        widths["q_proj"] = (hidden, queries)
    else:
        widths |= {"q_a_proj": (hidden, compressed), "q_b_proj": (compressed, queries)}
    for name, (inputs, outputs) in widths.items():
        yield Linear(name=name, inputs=inputs, outputs=outputs, count=layers, active=layers)


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerLayers:
    """The feed-forward part of all layers."""

    linears: tuple[Linear, ...]
    routers: int
    width: int
    experts: int = 0
    chosen: int = 0
    expert_width: int = 0

    @classmethod
    def read(cls, text: Mapping[str, Any], layers: int, hidden: int) -> InnerLayers:
        """Return the part of a plain model or of a mixture of experts."""
        names: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj")
        if str(text.get("model_type")) in _PLAIN_INNER:
            names = names[1:]
        found = (optional_size(text, key) for key in ("num_experts", "num_local_experts", "n_routed_experts"))
        experts = next((count for count in found if count), 0)
        if not experts:
            width = size_of(text, "intermediate_size")
            return cls(linears=_inner_linears(names, hidden, width, (layers, layers)), routers=0, width=width)
        width = optional_size(text, "moe_intermediate_size") or size_of(text, "intermediate_size")
        chosen = optional_size(text, "num_experts_per_tok") or 1
        dense = _dense_layers(text, layers)
        sparse = layers - dense
        shared = optional_size(text, "shared_expert_intermediate_size") or (
            width * (optional_size(text, "n_shared_experts") or 0) if text.get("n_shared_experts") else 0
        )
        linears = _inner_linears(names, hidden, width, (sparse * experts, sparse * chosen))
        if shared:
            linears += _inner_linears(names, hidden, shared, (sparse, sparse))
        if dense:
            linears += _inner_linears(names, hidden, size_of(text, "intermediate_size"), (dense, dense))
        # Qwen2's shared expert has a gate of its own, one number for each of its inputs.
        gate = hidden if text.get("shared_expert_intermediate_size") else 0
        return cls(
            linears=linears,
            routers=sparse * (hidden * experts + gate),
            width=chosen * width + shared,
            experts=experts,
            chosen=chosen,
            expert_width=width,
        )


def _inner_linears(names: tuple[str, ...], hidden: int, width: int, counts: tuple[int, int]) -> tuple[Linear, ...]:
    return tuple(
        Linear(
            name=name,
            inputs=width if name == "down_proj" else hidden,
            outputs=hidden if name == "down_proj" else width,
            count=counts[0],
            active=counts[1],
        )
        for name in names
    )


def _dense_layers(text: Mapping[str, Any], layers: int) -> int:
    """Return how many layers of a mixture have no experts."""
    first = int(text.get("first_k_dense_replace") or 0)
    listed = len(text.get("mlp_only_layers") or ())
    step = int(text.get("decoder_sparse_step") or 1)
    return min(layers, first + listed + (layers - layers // step))
