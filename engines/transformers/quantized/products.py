"""Products of rows with quantized weights, each by the operator that was measured as the fastest on a CPU.

`python bench/engine/quantized_speed.py` measures models with them; the figures are in docs/engines.md.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import torch
from torch import Tensor

from engines.transformers.linear import Product, float_product
from engines.transformers.quantized.weights import GroupedWeight, Int8Weight, QuantizedWeight

PACKED_GROUPS: Final = (32, 64, 128, 256)
"""Sizes of groups that torch's operator for 4-bit weights takes."""
PACKED_OUTPUTS: Final = 16
"""The number that its outputs are a multiple of."""
VECTORS: Final = ("AVX2", "AVX512")
"""Instruction sets for which torch has fast kernels of 4-bit weights; elsewhere they are slower than float32."""
_FOUR: Final = 4
_SEVEN: Final = 127
"""The largest number of 7 bits."""
_MIDDLE: Final = 64
"""The number halfway between 0 and that one."""


def kind_of_product(weight: QuantizedWeight) -> tuple[str, int]:
    """Return what weights must have in common so that one product may compute them side by side."""
    if isinstance(weight, Int8Weight):
        return "int8", 0
    if isinstance(weight, GroupedWeight):
        # Inputs in an order of its own are for one layer alone.
        return ("int4", weight.group_size) if weight.order is None else ("ordered", id(weight))
    return "whole", 0


def product_of_weights(weights: Sequence[QuantizedWeight], biases: Sequence[Tensor | None]) -> Product:
    """Return the layers with *weights*, alike in `kind_of_product`, side by side as one function of float32 rows."""
    given = [bias for bias in biases if bias is not None]
    bias = torch.cat([each.detach().float() for each in given]) if given else None
    eights = [weight for weight in weights if isinstance(weight, Int8Weight)]
    if len(eights) == len(weights) and "fbgemm" in torch.backends.quantized.supported_engines:
        return int8_product(eights, bias)
    grouped = [weight for weight in weights if isinstance(weight, GroupedWeight)]
    if len(grouped) == len(weights) and all(map(_is_packable, grouped)):
        return int4_product(grouped, bias)
    return float_product(torch.cat([weight.whole() for weight in weights]), bias)


def _is_packable(weight: GroupedWeight) -> bool:
    outputs, inputs = weight.values.shape
    return (
        weight.bits == _FOUR
        and weight.group_size in PACKED_GROUPS
        and inputs % weight.group_size == 0
        and outputs % PACKED_OUTPUTS == 0
        and torch.backends.cpu.get_cpu_capability() in VECTORS
    )


def int8_product(weights: Sequence[Int8Weight], bias: Tensor | None) -> Product:
    """Return the product with int8 weights: each row is rounded between its own least and largest number."""
    values = torch.cat([weight.values for weight in weights])
    scales = torch.cat([weight.scales for weight in weights])
    none = torch.zeros(len(values), dtype=torch.long)
    with warnings.catch_warnings():
        # These tensors are to leave torch at some time; no other operator of the pinned version is as fast.
        warnings.filterwarnings("ignore", message="torch.quantize_per_tensor", category=UserWarning)
        tensor = torch._make_per_channel_quantized_tensor(values, scales.double(), none, 0)
        packed = torch.ops.quantized.linear_prepack(tensor, None)
    sums = (values.sum(1, dtype=torch.float64) * scales).float()
    # Without VNNI pairs of products are added in 16 bits, which 8-bit inputs overflow.
    product = _eight_bits if torch.cpu._is_vnni_supported() else _twice_seven_bits
    return partial(_rounded_product, packed=packed, sums=sums, bias=bias, product=product)


def _rounded_product(
    rows: Tensor, *, packed: object, sums: Tensor, bias: Tensor | None, product: Callable[[Tensor, object], Tensor]
) -> Tensor:
    """Compute rows times int8 weights, as `range * (unit @ W) + least * sum(W)` with rows moved to 0 ... 1.

    So a row's result does not depend on the others in its batch, and a row of large numbers takes no digits from them.
    """
    least = torch.amin(rows, -1, keepdim=True)
    # A row of equal numbers has no range; any other divisor is right for it.
    extent = (torch.amax(rows, -1, keepdim=True) - least).clamp_min_(1e-20)
    unit = (rows - least).div_(extent)
    out = product(unit, packed)
    out.mul_(extent).addcmul_(least, sums)
    return out if bias is None else out.add_(bias)


def _eight_bits(unit: Tensor, packed: object) -> Tensor:
    """Return the product of *unit*, numbers from 0 to 1 that have both in each row, rounded to 8 bits.

    The operator rounds all rows between their least and their largest number, which are 0 and 1 here.
    """
    out: Tensor = torch.ops.quantized.linear_dynamic(unit, packed, False)
    return out


def _twice_seven_bits(unit: Tensor, packed: object) -> Tensor:
    """Return the product of *unit*, numbers from 0 to 1, rounded to 7 bits, plus that of what the rounding left.

    Seven bits alone are too few: adapters of the full model, whose inputs have outliers, missed their proofs. With the
    rest, which gets 7 bits too, the product takes about as long as one of float32 weights, and a quarter of the memory.
    """
    rest = unit - (unit * _SEVEN).round_().div_(_SEVEN)
    out: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(unit, 1 / _SEVEN, 0, packed)
    # The rest lies between -1/2 and 1/2 of a step, moved to numbers that are not negative.
    return out.add_(
        torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(rest, 1 / _SEVEN**2, _MIDDLE, packed)
    )


def int4_product(weights: Sequence[GroupedWeight], bias: Tensor | None) -> Product:
    """Return the product with 4-bit weights, which stay packed; rows and results are rounded to bfloat16."""
    values = torch.cat([weight.values for weight in weights]).int()
    scales = torch.cat([weight.scales for weight in weights])
    zeros = torch.cat([weight.zeros for weight in weights])
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(values, 1)
    # The operator computes (value - 8) * scale + shift.
    shifts = (8.0 - zeros) * scales
    scales_and_shifts = torch.stack([scales, shifts], -1).transpose(0, 1).contiguous().bfloat16()
    product = partial(_packed_product, packed=packed, group=weights[0].group_size, scales=scales_and_shifts, bias=bias)
    order = weights[0].order
    return product if order is None else (lambda rows: product(rows.index_select(-1, order)))


def _packed_product(rows: Tensor, *, packed: Tensor, group: int, scales: Tensor, bias: Tensor | None) -> Tensor:
    flat = rows.reshape(-1, rows.shape[-1]).bfloat16()
    out: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(flat, packed, group, scales).float()
    out = out if bias is None else out.add_(bias)
    return out.view(*rows.shape[:-1], -1)
