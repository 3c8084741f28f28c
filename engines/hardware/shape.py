"""The sizes of a base model that decide where it fits, read from its Hugging Face folder."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from engines.base_task import BaseTask, task_of
from engines.errors import ModelUnreadable
from engines.quantization import Quantization, quantization_by
from engines.text_config import text_config

_ELEMENT_BITS: Final[Mapping[str, int]] = {
    **{"F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32},
    **{"F16": 16, "BF16": 16, "I16": 16, "U16": 16},
    **{"I8": 8, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4},
}
_LARGEST_HEADER: Final = 100 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """The sizes of a model; all experts of a mixture count as weights, though few compute for a token."""

    name: str
    model_type: str
    parameters: int
    """Numbers in the checkpoint; for a quantized one, the product of its sizes."""
    weight_bytes: int
    """Bytes of the tensors as they are stored."""
    stored_bits: int
    """Bits of a linear weight: 32, 16, 8 or 4."""
    stored_type: str
    """Type of most numbers, as safetensors names it: `BF16`, `F16`, `F32`."""
    quantization: Quantization | None = None
    """Method and scheme of a quantized checkpoint; None for a full one."""
    layers: int
    """All layers, whatever their kind."""
    attention_layers: int
    """Layers that keep keys and values for every position."""
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    """Inner width of the feed-forward part; in a mixture, of one expert."""
    vocabulary: int
    is_tied: bool
    """Whether the output layer is the embedding again."""
    max_context: int
    experts: int = 0
    experts_per_token: int = 0
    task: BaseTask = BaseTask.GENERATE
    latent_kv: int | None = None
    """Values kept per position and layer by models that compress keys and values together (DeepSeek's)."""


def read_shape(folder: Path) -> ModelShape:
    """Read the shape of the model in *folder*; `ModelUnreadable` names what is missing."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
        text = text_config(config)
        tensors = list(_tensors(folder))
        shape = _shape(folder.name, text, {**text, **config}, tensors)
        task = task_of(folder)
        longest = shape.max_context if task is BaseTask.GENERATE else _longest_text(folder) or shape.max_context
        return replace(shape, task=task, max_context=min(shape.max_context, longest))
    except FileNotFoundError as exc:
        raise ModelUnreadable(
            f"{folder}: no {Path(exc.filename or '').name}; is this a Hugging Face model folder?"
        ) from exc
    except KeyError as exc:
        raise ModelUnreadable(f"{folder}/config.json has no {exc.args[0]!r}; this is not a model that we know") from exc
    except (ValueError, OSError) as exc:
        raise ModelUnreadable(f"{folder}: {exc}") from exc


def _shape(name: str, text: Mapping[str, Any], config: Mapping[str, Any], tensors: list[tuple[str, int]]) -> ModelShape:
    heads = int(text["num_attention_heads"])
    layers = int(text["num_hidden_layers"])
    experts = int(text.get("num_experts") or text.get("num_local_experts") or text.get("n_routed_experts") or 0)
    latent = text.get("kv_lora_rank")
    quantized = config.get("quantization_config")
    stored_type = _most_common_type(tensors)
    return ModelShape(
        name=name,
        model_type=str(config["model_type"]),
        parameters=sum(count for _, count in tensors),
        weight_bytes=sum(count * _ELEMENT_BITS[kind] for kind, count in tensors) // 8,
        stored_bits=_quantized_bits(quantized) if quantized else _ELEMENT_BITS[stored_type],
        stored_type=stored_type,
        quantization=quantization_by(config),
        layers=layers,
        attention_layers=layers - sum(kind == "linear_attention" for kind in text.get("layer_types") or ()),
        hidden=int(text["hidden_size"]),
        heads=heads,
        kv_heads=int(text.get("num_key_value_heads") or heads),
        head_dim=int(text.get("head_dim") or text["hidden_size"] // heads),
        intermediate=int((experts and text.get("moe_intermediate_size")) or text["intermediate_size"]),
        vocabulary=int(text["vocab_size"]),
        is_tied=bool(config.get("tie_word_embeddings", False)),
        max_context=int(text["max_position_embeddings"]),
        experts=experts,
        experts_per_token=int(text.get("num_experts_per_tok") or 0),
        latent_kv=int(latent) + int(text["qk_rope_head_dim"]) if latent else None,
    )


def _longest_text(folder: Path) -> int | None:
    """Return the length to which sentence-transformers cuts texts, in tokens, where the folder names one."""
    for file in sorted(folder.glob("sentence_*_config.json")):
        longest = json.loads(file.read_bytes()).get("max_seq_length")
        return None if longest is None else int(longest)
    return None


def _quantized_bits(quantized: Mapping[str, Any]) -> int:
    """Return the bits of a linear weight, wherever the method writes them down."""
    if "bits" in quantized:
        return int(quantized["bits"])
    groups = quantized.get("config_groups") or {}
    for group in groups.values():
        if bits := (group.get("weights") or {}).get("num_bits"):
            return int(bits)
    return 8 if quantized["quant_method"] == "fp8" else 4


def _most_common_type(tensors: list[tuple[str, int]]) -> str:
    counts: Counter[str] = Counter()
    for kind, count in tensors:
        counts[kind] += count
    return counts.most_common(1)[0][0]


def _tensors(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield element type and count of each tensor from the headers of the safetensors files; no weight is read."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelUnreadable(f"{folder}: no weights (*.safetensors)")
    for file in files:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if length > _LARGEST_HEADER:
                raise ModelUnreadable(f"{file}: not a safetensors file")
            header = json.loads(opened.read(length))
        for name, tensor in header.items():
            if name != "__metadata__":
                yield str(tensor["dtype"]), math.prod(tensor["shape"])
