"""Weights that a trainer saved beside the LoRA weights: nothing is lost without them if they are the base's own.

PEFT saves the embeddings along with an adapter when the vocabulary or a setting asks for it, trained or not.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from registry.errors import AdapterRejected
from registry.publishing.adapter_files import WEIGHTS, cut_name
from registry.publishing.adapter_weights import Matrix
from registry.publishing.checks import base_files
from registry.publishing.tensor_files import FLOATS, read_shapes, read_tensors

_AROUND: Final = re.compile(
    r"(?:base_model\.model\.)*(?P<name>[^.]+(?:\.[^.]+)*?)(?:\.base_layer)?\.(?P<part>weight|bias)"
)
_TIED: Final = {"lm_head.weight": "embed_tokens.weight", "embed_out.weight": "embed_in.weight"}
"""Weight that a base without it shares -> the weight that it is."""
_ROWS: Final = 4096
"""Rows that are compared at a time: with 4,096 columns a few copies of 64 MiB."""


class BaseWeights:
    """The weights of the base model in its files."""

    def __init__(self, folder: Path) -> None:
        """Read the headers; `AdapterRejected`."""
        self._files = {name: path for path in base_files(folder) for name in read_shapes([path])}
        self._checked = 0

    def check_same(self, name: str, matrix: Matrix) -> None:
        """Return if *matrix*, saved as *name*, is the base's own weight; `AdapterRejected` with what to do if not."""
        match = _AROUND.fullmatch(name)
        own = None if match is None else self._own_name(f"{match['name']}.{match['part']}")
        self._checked += 1
        if own is None or self._checked > 2 * len(self._files):
            raise AdapterRejected(f"{WEIGHTS}: {cut_name(name)} is not a LoRA weight of a linear module")
        base = next((found for found in self._read(own)), None)
        if base is None or base.bits.shape != matrix.bits.shape:
            shape = "of another type" if base is None else list(base.bits.shape)
            raise _differs(name, f"is {list(matrix.bits.shape)}, and the base's {own} is {shape}")
        if not _is_rounded(matrix, base):
            raise _differs(name, f"differs from the base's {own}")

    def _own_name(self, name: str) -> str | None:
        """Return the base's name of the weight *name*, whose parents may differ there; None unless exactly one fits."""
        last = ".".join(name.split(".")[-2:])
        for end in (name, last, _TIED.get(last, last)):
            alike = [own for own in self._files if own == end or own.endswith(f".{end}")]
            if len(alike) == 1:
                return alike[0]
        return None

    def _read(self, own: str) -> list[Matrix]:
        tensors = read_tensors(self._files[own])
        return [Matrix(bits=bits, dtype=dtype) for name, dtype, bits in tensors if name == own]


def _differs(name: str, how: str) -> AdapterRejected:
    return AdapterRejected(
        f"{WEIGHTS}: {cut_name(name)} {how}: engines serve LoRA weights only, not an adapter's own embeddings or other "
        "whole weights. If they were not trained, save the adapter without them "
        "(save_pretrained(..., save_embedding_layers=False)); if they were, train without them"
    )


def _is_rounded(matrix: Matrix, base: Matrix) -> bool:
    """Whether *matrix* is *base* in one of the types in which a trainer may have loaded it.

    Equal in a coarse type alone would not do: small changes by training vanish there.
    """
    possible = {"F32", "F16", "BF16"}
    for first in range(0, len(base.bits), _ROWS):
        rows = slice(first, first + _ROWS)
        values = Matrix(bits=base.bits[rows], dtype=base.dtype).widened()
        saved = Matrix(bits=matrix.bits[rows], dtype=matrix.dtype).widened()
        possible = {dtype for dtype in possible if np.array_equal(_rounded(values, dtype), saved)}
        if not possible:
            return False
    return True


def _rounded(values: npt.NDArray[np.float32], dtype: str) -> npt.NDArray[np.float32]:
    if dtype == "BF16":
        bits = values.view(np.uint32)
        # The upper half of the bits, rounded to the nearest, ties to even.
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
    with np.errstate(over="ignore"):  # infinity, which then differs
        return values.astype(FLOATS[dtype][0]).astype(np.float32)
