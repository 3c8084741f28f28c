"""A small model's folder, quantized by rounding, in the formats that tools write; and the same model in float32."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

GROUP: Final = 32
_AWQ_PLACES: Final = (0, 2, 4, 6, 1, 3, 5, 7)
Parts = dict[str, Tensor]
Rounding = Callable[[Tensor], tuple[Parts, Tensor]]
"""A weight -> the tensors that stand for it in the file, and the weight that they mean."""


def pack(numbers: Tensor, bits: int) -> Tensor:
    """[rows, n] of not negative numbers -> int32, the first number lowest."""
    per = 32 // bits
    grouped = numbers.long().view(numbers.shape[0], -1, per)
    words = (grouped << (torch.arange(per) * bits)).sum(-1)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)


def eight_bits(weight: Tensor) -> tuple[Parts, Tensor]:
    scale = weight.abs().amax(1, keepdim=True) / 127
    values = (weight / scale).round().to(torch.int8)
    return {"weight": values, "weight_scale": scale}, values * scale


def eight_floats(weight: Tensor) -> tuple[Parts, Tensor]:
    scale = weight.abs().amax(1, keepdim=True) / 448
    values = (weight / scale).to(torch.float8_e4m3fn)
    return {"weight": values, "weight_scale": scale}, values.float() * scale


def _grouped(weight: Tensor, *, symmetric: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values and zeros of 4 bits, scales, and the weight that they mean."""
    groups = weight.view(len(weight), -1, GROUP)
    if symmetric:
        scale = groups.abs().amax(-1) / 7
        zero = torch.full_like(scale, 8)
    else:
        low, high = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
        scale = (high - low) / 15
        zero = (-low / scale).round()
    scale = scale.bfloat16().float()
    values = (groups / scale[..., None] + zero[..., None]).round().clamp(0, 15)
    meant = ((values - zero[..., None]) * scale[..., None]).view_as(weight)
    return values.view_as(weight), zero, scale, meant


def packed(*, symmetric: bool, shuffled: bool = False) -> Rounding:
    """4 bits in compressed-tensors' layout; *shuffled*: groups of inputs that are not neighbours."""

    def rounding(weight: Tensor) -> tuple[Parts, Tensor]:
        order = torch.randperm(weight.shape[1]) if shuffled else torch.arange(weight.shape[1])
        values, zero, scale, meant = _grouped(weight[:, order], symmetric=symmetric)
        back = torch.argsort(order)
        parts = {
            "weight_packed": pack(values[:, back], 4),
            "weight_scale": scale.bfloat16(),
            "weight_shape": torch.tensor(weight.shape),
        }
        if not symmetric:
            parts["weight_zero_point"] = pack(zero.t(), 4).t().contiguous()
        if shuffled:
            parts["weight_g_idx"] = (torch.arange(weight.shape[1]) // GROUP)[back].int()
        return parts, meant[:, back]

    return rounding


def gptq(weight: Tensor) -> tuple[Parts, Tensor]:
    values, zero, scale, meant = _grouped(weight, symmetric=True)
    return {
        "qweight": pack(values, 4).t().contiguous(),
        "qzeros": pack((zero - 1).t(), 4),
        "scales": scale.t().contiguous(),
        "g_idx": (torch.arange(weight.shape[1]) // GROUP).int(),
    }, meant


def awq(weight: Tensor) -> tuple[Parts, Tensor]:
    def packed_outputs(numbers: Tensor) -> Tensor:
        eights = numbers.reshape(len(numbers), -1, 8)[..., list(_AWQ_PLACES)]
        return pack(eights.reshape(len(numbers), -1), 4)

    values, zero, scale, meant = _grouped(weight, symmetric=False)
    parts = {
        "qweight": packed_outputs(values.t()),
        "qzeros": packed_outputs(zero.t()),
        "scales": scale.t().contiguous(),
    }
    return parts, meant


def group_config(bits: int, kind: str = "int", *, rounds_inputs: bool = False) -> dict[str, Any]:
    """A `quantization_config` as llm-compressor writes it."""
    inputs = {"num_bits": bits, "type": kind, "dynamic": True, "strategy": "token", "symmetric": True}
    weights = {"num_bits": bits, "type": kind, "strategy": "group" if bits == 4 else "channel"}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs if rounds_inputs else None}
    # vLLM takes a folder that names no format for one with full activations, and finds no scheme for the layers.
    stored = {"int": "pack-quantized" if bits == 4 else "int-quantized", "float": "float-quantized"}[kind]
    return {
        "quant_method": "compressed-tensors",
        "format": stored,
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
    }


FORMS: Final[Mapping[str, tuple[Rounding, dict[str, Any]]]] = {
    "w8a8-int8": (eight_bits, group_config(8, rounds_inputs=True)),
    "w8a16": (eight_bits, group_config(8)),
    "w4a16": (packed(symmetric=True), group_config(4)),
    "w4a16-asymmetric": (packed(symmetric=False), group_config(4)),
    "w4a16-shuffled": (packed(symmetric=False, shuffled=True), group_config(4)),
    "gptq": (gptq, {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False}),
    "awq": (awq, {"quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm"}),
    "fp8": (eight_floats, group_config(8, "float", rounds_inputs=True)),
}


def quantize_folder(source: Path, target: Path, form: str, meant: Path, leave: str = "") -> None:
    """Write the model in *source* quantized to *target*, and in float32 as that is meant to *meant*.

    Layers whose names end with *leave* stay as they are.
    """
    rounding, config = FORMS[form]
    written: dict[str, Tensor] = {}
    whole: dict[str, Tensor] = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        is_linear = name.endswith("_proj.weight") and not (leave and name.endswith(f"{leave}.weight"))
        parts, value = rounding(tensor.float()) if is_linear else ({"weight": tensor}, tensor)
        layer = name.rpartition(".")[0]
        written |= {f"{layer}.{part}" if is_linear else name: each.contiguous() for part, each in parts.items()}
        whole[name] = value.contiguous()
    for folder, tensors, fields in ((target, written, {"quantization_config": config}), (meant, whole, {})):
        shutil.copytree(source, folder)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        known = json.loads((source / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(known | fields))
