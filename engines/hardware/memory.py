"""How much memory a base model takes, on each of the *devices* that share its layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from engines.base_task import BaseTask
from engines.hardware.shape import ModelShape
from engines.kinds import Precision

WEIGHT_BITS: Final[Mapping[Precision, int]] = {
    Precision.FP32: 32,
    Precision.BF16: 16,
    Precision.FP16: 16,
    Precision.FP8: 8,
    Precision.INT8: 8,
    Precision.INT4: 4,
}


def value_bytes(precision: Precision) -> int:
    """Return the bytes of an activation, a cached key or value, or an adapter's weight: 4 in float32, else 2."""
    return 4 if precision is Precision.FP32 else 2


def weight_bytes(model: ModelShape, precision: Precision) -> int:
    """Return the bytes of all weights.

    A quantized checkpoint stays as it is stored. In fp8 the linear layers take a byte each, embedding and output two.
    """
    if model.quantization is not None:
        return model.weight_bytes
    if precision is Precision.FP8:
        return model.parameters + embedding_parameters(model)
    return model.parameters * WEIGHT_BITS[precision] // 8


def widened_bytes(model: ModelShape) -> int:
    """Return the bytes of a quantized checkpoint whose linear layers are turned into float32."""
    rest = 2 * embedding_parameters(model)
    return (model.weight_bytes - rest) * 32 // model.stored_bits + rest


def embedding_parameters(model: ModelShape) -> int:
    """Return how many numbers embedding and output layer have, which are not quantized."""
    return model.vocabulary * model.hidden * (1 if model.is_tied else 2)


def kv_bytes_per_token(model: ModelShape, precision: Precision, devices: int = 1) -> int:
    """Return 2 (key, value) x layers x kv heads x head size x bytes; a head that several devices need is on each.

    A model that generates nothing keeps none; what a token takes there is that of a pass.
    """
    if model.task is not BaseTask.GENERATE:
        return pass_bytes_per_token(model, precision)
    if model.latent_kv is not None:
        return model.attention_layers * model.latent_kv * value_bytes(precision)
    heads = max(1, model.kv_heads // devices)
    return 2 * model.attention_layers * heads * model.head_dim * value_bytes(precision)


def pass_bytes_per_token(model: ModelShape, precision: Precision) -> int:
    """Return the bytes of a token's states in one layer, the most that are held at a time in a pass.

    Six of the layer's width (input, query, key, value, attention, output) and two of the inner width.
    """
    return (6 * model.hidden + 2 * model.intermediate) * value_bytes(precision)


def slot_bytes(model: ModelShape, rank: int, precision: Precision, devices: int = 1) -> int:
    """Return the bytes of one adapter's place: the sum over a block's seven linear layers of rank x (in + out) x bytes.

    Shared out as the engines do: of a layer that is cut by its outputs, A is on every device and B is cut; of one that
    is cut by its inputs, the other way round. Experts count once each.
    """
    numbers = sum(rank * (whole + cut // devices) for whole, cut in _targets(model))
    return numbers * model.layers * value_bytes(precision)


def _targets(model: ModelShape) -> Iterator[tuple[int, int]]:
    """Yield for each linear layer of a block the width that every device has whole, and the one that is cut."""
    queries, keys = model.heads * model.head_dim, model.kv_heads * model.head_dim
    yield model.hidden, queries  # q
    yield model.hidden, keys  # k
    yield model.hidden, keys  # v
    yield model.hidden, queries  # o: cut by its inputs
    for _ in range(max(1, model.experts)):
        yield model.hidden, model.intermediate  # gate
        yield model.hidden, model.intermediate  # up
        yield model.hidden, model.intermediate  # down: cut by its inputs
