"""The schemes by which a checkpoint is quantized: what each stores, and what it needs of a model. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from registry.errors import NotQuantizable


class Scheme(StrEnum):
    """How the weights of linear layers are stored, by which algorithm, and in which numbers an engine computes."""

    W4A16_GPTQ = "w4a16-gptq"
    W4A16_AWQ = "w4a16-awq"
    W8A8_INT8 = "w8a8-int8"
    FP8 = "fp8"
    GGUF_Q4 = "gguf-q4"
    GGUF_Q8 = "gguf-q8"


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemeTraits:
    """The facts of a scheme."""

    about: str
    """A sentence for people."""
    has_groups: bool = False
    """Whether a scale is that of a group of weights in a row; otherwise of the whole row, or the format's own."""
    gguf_type: str | None = None
    """Type of a GGUF file's matrices; None for a folder in the format of compressed-tensors."""

    @property
    def tool(self) -> str | None:
        """The environment that the work needs; None where Lorry's own does it."""
        return None if self.gguf_type else TOOL


TOOL: Final = "quantize"
"""Name of the environment of llm-compressor (`lorry envs install quantize`)."""
SCHEMES: Final[Mapping[Scheme, SchemeTraits]] = {
    Scheme.W4A16_GPTQ: SchemeTraits(about="4-bit weights by GPTQ, symmetric", has_groups=True),
    Scheme.W4A16_AWQ: SchemeTraits(about="4-bit weights by AWQ, asymmetric", has_groups=True),
    Scheme.W8A8_INT8: SchemeTraits(about="8-bit integers by GPTQ, weights and activations"),
    Scheme.FP8: SchemeTraits(about="8-bit floats (E4M3), weights and activations, rounded to the nearest"),
    Scheme.GGUF_Q4: SchemeTraits(about="a GGUF file with 4-bit weights (Q4_1)", gguf_type="q4_1"),
    Scheme.GGUF_Q8: SchemeTraits(about="a GGUF file with 8-bit weights (Q8_0)", gguf_type="q8_0"),
}
GROUP_SIZES: Final = (128, 64, 32)
"""Sizes of groups that engines have kernels for, the usual one first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupChoice:
    """The size of groups, and why it is not the usual one."""

    size: int | None
    remark: str | None = None


def choose_group(scheme: Scheme, widths: Iterable[int], asked: int | None = None) -> GroupChoice:
    """Return the largest size of groups that divides all *widths* (inputs of linear layers), or the one *asked* for.

    Raises `NotQuantizable` where none does, or where the scheme has no groups to ask for.
    """
    if not SCHEMES[scheme].has_groups:
        if asked is not None:
            raise NotQuantizable(f"group_size: {scheme} has no groups; leave it out")
        return GroupChoice(size=None)
    found = sorted(set(widths))
    fitting = [size for size in GROUP_SIZES if not any(width % size for width in found)]
    listed = ", ".join(str(width) for width in found)
    if asked is not None and asked not in fitting:
        choices = ", ".join(map(str, fitting)) or "none of them"
        raise NotQuantizable(
            f"group_size: {asked} is not possible: sizes are {', '.join(map(str, GROUP_SIZES))}, and of these "
            f"{choices} divide all widths of the model ({listed})"
        )
    if not fitting:
        raise NotQuantizable(
            f"scheme: {scheme} needs groups of {', '.join(map(str, GROUP_SIZES))} weights, and none of these divides "
            f"all widths of the model ({listed}); w8a8-int8 has no groups"
        )
    size = asked or fitting[0]
    if size == GROUP_SIZES[0]:
        return GroupChoice(size=size)
    why = "as asked" if asked else f"in place of {GROUP_SIZES[0]}, which does not divide all widths ({listed})"
    return GroupChoice(size=size, remark=f"Scales are those of groups of {size} weights, {why}")
