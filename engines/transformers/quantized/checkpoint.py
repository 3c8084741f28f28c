"""A model whose linear layers are quantized: its other tensors in float32, the quantized ones as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from engines.catalog import kind_of
from engines.kinds import DEFAULT_KIND
from engines.quantization import Quantization, Scheme, quantization_in
from engines.quantized_support import Silicon, why_not_served
from engines.transformers.errors import UnsupportedModel
from engines.transformers.quantized.weights import SUFFIXES, QuantizedWeight, weight_of


def load_quantized(folder: Path, attention: str) -> tuple[Any, dict[str, QuantizedWeight]]:
    """Return the model in *folder* and the weights of its quantized layers, by the layers' names; `UnsupportedModel`.

    The quantized layers of the model itself have no numbers.
    """
    quantization = quantization_in(folder)
    if quantization is None:
        raise UnsupportedModel(f"{folder}: config.json names no quantization")
    if why := why_not_served(DEFAULT_KIND, kind_of(DEFAULT_KIND).quantized, quantization, Silicon()):
        raise UnsupportedModel(f"{folder}: {why}")
    plain, parts = _sorted_tensors(folder)
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    offset = _gptq_offset(config.quantization_config)
    del config.quantization_config
    rounds = quantization.scheme is Scheme.W8A8_INT8
    weights = {name: weight_of(name, found, rounds_inputs=rounds, gptq_offset=offset) for name, found in parts.items()}
    model = _without_numbers(config, attention)
    _fill(model, plain, weights, folder, quantization)
    return model.eval(), weights


def _without_numbers(config: Any, attention: str) -> Any:
    """Return the model with parameters that take no memory; its other tensors are computed."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=attention)
    # Frequencies of rotary embeddings are in no file; the models served here have them in this one place.
    model.model.rotary_emb = type(model.model.rotary_emb)(config=config)
    return model


def _fill(
    model: Any, plain: dict[str, Tensor], weights: Mapping[str, QuantizedWeight], folder: Path, found: Quantization
) -> None:
    """Put the tensors of the file into *model*; `UnsupportedModel` names one that is absent, or not of this model."""
    linears = {name for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)}
    if strangers := sorted(weights.keys() - linears):
        raise UnsupportedModel(f"{folder}: quantized layer {strangers[0]} is not a linear layer of the model")
    if not weights:
        raise UnsupportedModel(f"{folder}: config.json says {found.label}, but the file has no quantized layer")
    absent, unknown = model.load_state_dict(plain, strict=False, assign=True)
    model.tie_weights()
    expected = {f"{name}.weight" for name in weights}
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    if unknown:
        raise UnsupportedModel(f"{folder}: tensor {unknown[0]} is not one of the model's")
    if missing := sorted(set(absent) - expected - tied):
        raise UnsupportedModel(f"{folder}: tensor {missing[0]} is missing")
    for name, weight in weights.items():
        layer = model.get_submodule(name)
        if tuple(weight.values.shape) != (layer.out_features, layer.in_features):
            raise UnsupportedModel(
                f"{folder}: quantized layer {name} is {list(weight.values.shape)}, "
                f"not [{layer.out_features}, {layer.in_features}]"
            )


def _sorted_tensors(folder: Path) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """Return the plain tensors in float32 by name, and those of quantized layers by layer and last name."""
    plain: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in _tensors(folder):
        layer, _, last = name.rpartition(".")
        if last in SUFFIXES or (last == "weight" and tensor.dtype in (torch.int8, torch.float8_e4m3fn)):
            parts.setdefault(layer, {})[last] = tensor
        else:
            plain[name] = tensor.float()
    return plain, parts


def _tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118  safe_open cannot be iterated
                    yield name, opened.get_tensor(name)
    except (OSError, SafetensorError) as exc:
        raise UnsupportedModel(f"{folder}: {exc}") from exc


def _gptq_offset(found: Any) -> int:
    """Return what is to be added to the zeros of a GPTQ folder: 1, but in its second format."""
    fields = found if isinstance(found, dict) else json.loads(found.to_json_string())
    return 0 if fields.get("checkpoint_format") == "gptq_v2" else 1
