"""The quantized weights of linear layers, read from the tensors of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from engines.transformers.errors import UnsupportedModel

MOST_BITS: Final = 8
_AWQ_ORDER: Final = (0, 4, 1, 5, 2, 6, 3, 7)
"""Place of the n-th of eight successive outputs within AWQ's 32-bit numbers, in nibbles."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Int8Weight:
    """A weight of 8-bit numbers with a scale for each output; inputs are rounded to 8 bits when it is used."""

    values: Tensor
    """int8, [out, in]"""
    scales: Tensor
    """float32, [out]"""

    def whole(self) -> Tensor:
        """Return the weight in float32."""
        return self.values.float() * self.scales[:, None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroupedWeight:
    """A weight of `(values - zeros) * scales`, with a scale and a zero for each group of inputs."""

    values: Tensor
    """uint8, [out, in]: not negative, 4 bits or 8"""
    scales: Tensor
    """float32, [out, groups]"""
    zeros: Tensor
    """float32, [out, groups]"""
    order: Tensor | None = None
    """The inputs in the order in which groups follow each other; None where that is their own."""
    bits: int = 4

    @property
    def group_size(self) -> int:
        """The number of inputs in a group."""
        return self.values.shape[1] // self.scales.shape[1]

    def whole(self) -> Tensor:
        """Return the weight in float32, inputs in their own order."""
        outputs, inputs = self.values.shape
        grouped = self.values.view(outputs, -1, self.group_size).float()
        weight = ((grouped - self.zeros[..., None]) * self.scales[..., None]).view(outputs, inputs)
        return weight if self.order is None else weight[:, torch.argsort(self.order)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WholeWeight:
    """A weight whose numbers are computed with in float32."""

    values: Tensor
    """float32, [out, in]"""

    def whole(self) -> Tensor:
        """Return the weight in float32."""
        return self.values


QuantizedWeight = Int8Weight | GroupedWeight | WholeWeight
SUFFIXES: Final = (
    *("weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx"),
    *("qweight", "qzeros", "scales", "g_idx"),
)
"""Last parts of the names of tensors that belong to a quantized layer, beside `weight` itself."""


def weight_of(name: str, parts: Mapping[str, Tensor], *, rounds_inputs: bool, gptq_offset: int) -> QuantizedWeight:
    """Return the weight of layer *name* from the tensors *parts*, by their last names; `UnsupportedModel`.

    *rounds_inputs*: products are computed with int8 inputs too. *gptq_offset* is what GPTQ's tools subtract from zeros.
    """
    try:
        if "weight_packed" in parts:
            return _packed(parts)
        if "qweight" in parts:
            packs_outputs = parts["qweight"].shape[1] != parts["scales"].shape[1]
            return _awq(parts) if packs_outputs else _gptq(parts, gptq_offset)
        return _plain(parts, rounds_inputs=rounds_inputs)
    except (KeyError, RuntimeError, ZeroDivisionError) as exc:
        raise UnsupportedModel(f"layer {name}: its quantized tensors do not fit together: {exc}") from exc


def _plain(parts: Mapping[str, Tensor], *, rounds_inputs: bool) -> QuantizedWeight:
    values, scales = parts["weight"], parts["weight_scale"].float()
    outputs = values.shape[0]
    if values.dtype is not torch.int8:  # 8-bit floats
        return WholeWeight(values=values.float() * scales.view(-1, 1).expand(outputs, 1))
    shifts = parts.get("weight_zero_point")
    if rounds_inputs and scales.numel() in (1, outputs) and (shifts is None or not shifts.any()):
        return Int8Weight(values=values, scales=scales.view(-1).expand(outputs).contiguous())
    grouped = scales.view(-1, 1).expand(outputs, 1) if scales.numel() == 1 else scales.view(outputs, -1)
    zeros = torch.full_like(grouped, 128.0) if shifts is None else shifts.float().view_as(grouped) + 128.0
    return GroupedWeight(values=(values.int() + 128).to(torch.uint8), scales=grouped, zeros=zeros, bits=MOST_BITS)


def _packed(parts: Mapping[str, Tensor]) -> GroupedWeight:
    """Read compressed-tensors' `pack-quantized`: numbers of both signs, moved up by half their range, along inputs."""
    outputs, inputs = (int(size) for size in parts["weight_shape"])
    packed, scales = parts["weight_packed"], parts["weight_scale"].float()
    bits = 32 * packed.shape[1] // inputs
    values = unpack(packed, bits)[:, :inputs]
    scales = scales.view(-1, 1).expand(outputs, 1) if scales.numel() == 1 else scales
    shifts = parts.get("weight_zero_point")
    if shifts is None:
        zeros = torch.full_like(scales, float(1 << (bits - 1)))
    else:
        zeros = unpack(shifts.t().contiguous(), bits).t()[:outputs].float()
    order = _order(parts.get("weight_g_idx"), scales.shape[1])
    values = values if order is None else values[:, order]
    return GroupedWeight(values=values.contiguous(), scales=scales, zeros=zeros, order=order, bits=bits)


def _gptq(parts: Mapping[str, Tensor], offset: int) -> GroupedWeight:
    """Read GPTQ's own layout: packed along inputs, zeros along outputs."""
    scales = parts["scales"].float().t().contiguous()
    values = unpack(parts["qweight"].t().contiguous(), 4)
    zeros = unpack(parts["qzeros"], 4).t().float() + offset
    order = _order(parts.get("g_idx"), scales.shape[1])
    return GroupedWeight(values=values if order is None else values[:, order], scales=scales, zeros=zeros, order=order)


def _awq(parts: Mapping[str, Tensor]) -> GroupedWeight:
    """Read AWQ's own layout: packed along outputs, eight of them in an order of its own."""

    def ordered(packed: Tensor) -> Tensor:
        rows = unpack(packed, 4).view(packed.shape[0], -1, 8)
        return rows[..., list(_AWQ_ORDER)].reshape(packed.shape[0], -1)

    scales = parts["scales"].float().t().contiguous()
    values = ordered(parts["qweight"]).t().contiguous()
    return GroupedWeight(values=values, scales=scales, zeros=ordered(parts["qzeros"]).t().float())


def _order(groups: Tensor | None, count: int) -> Tensor | None:
    """Return the inputs by group; None where they are in that order already."""
    if groups is None or groups.numel() == 0 or bool((groups < 0).any()):
        return None
    order = torch.argsort(groups.long(), stable=True)
    sizes = torch.bincount(groups.long(), minlength=count)
    if bool((sizes != sizes[0]).any()):
        raise RuntimeError("groups of different sizes in g_idx")
    return None if bool((order == torch.arange(len(order))).all()) else order


def unpack(packed: Tensor, bits: int) -> Tensor:
    """Return the numbers of *bits* bits in 32-bit ones, the lowest first: [rows, n] -> uint8 [rows, n * 32 / bits]."""
    shifts = torch.arange(0, 32, bits, dtype=torch.int32)
    numbers = (packed[..., None] >> shifts) & ((1 << bits) - 1)
    return numbers.to(torch.uint8).view(packed.shape[0], -1)
