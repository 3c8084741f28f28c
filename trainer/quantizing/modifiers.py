"""The steps of llm-compressor for each scheme."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from compressed_tensors.quantization import QuantizationScheme, preset_name_to_scheme
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQModifier
from llmcompressor.pipelines.cache import IntermediatesCache

_IGNORED: Final = ["lm_head"]


def modifiers_of(scheme: str, group_size: int | None) -> list[Any]:
    """Return the modifiers that quantize as *scheme*, with scales for groups of *group_size* where it has groups."""
    return _MODIFIERS[scheme](group_size)


def _preset(name: str, group_size: int | None) -> dict[str, QuantizationScheme]:
    preset = preset_name_to_scheme(name, ["Linear"])
    if group_size is not None and preset.weights is not None:
        preset.weights = preset.weights.model_copy(update={"group_size": group_size})
    return {"group_0": preset}


def _gptq(group_size: int | None) -> list[Any]:
    return [GPTQModifier(config_groups=_preset("W4A16", group_size), ignore=_IGNORED)]


def _awq(group_size: int | None) -> list[Any]:
    if not torch.accelerator.is_available():
        # 0.14.0.1 pins memory for transfers to an accelerator without looking for one, and fails where there is none.
        IntermediatesCache.pin_memory = lambda cache, batch_index, input_names=None: None
    return [
        AWQModifier(duo_scaling="both"),
        QuantizationModifier(config_groups=_preset("W4A16_ASYM", group_size), ignore=_IGNORED),
    ]


def _int8(group_size: int | None) -> list[Any]:
    return [GPTQModifier(config_groups=_preset("W8A8", None), ignore=_IGNORED)]


def _fp8(group_size: int | None) -> list[Any]:
    return [QuantizationModifier(config_groups=_preset("FP8_DYNAMIC", None), ignore=_IGNORED)]


_MODIFIERS: Final[Mapping[str, Callable[[int | None], list[Any]]]] = {
    "w4a16-gptq": _gptq,
    "w4a16-awq": _awq,
    "w8a8-int8": _int8,
    "fp8": _fp8,
}
