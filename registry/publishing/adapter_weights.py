"""Read and write the tensors of an adapter. Numpy only: bfloat16 is read by its bits."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from registry.errors import AdapterRejected
from registry.publishing.adapter_files import WEIGHTS
from registry.publishing.tensor_files import Bits, check_weights_file, read_tensors

ORDER_OF_TYPES: Final = ("F32", "BF16", "F16")
"""The order in which safetensors writes tensors of these types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A tensor, of two dimensions where it is a LoRA weight; `bits` are its values, except for BF16."""

    bits: Bits
    dtype: str

    def widened(self) -> npt.NDArray[np.float32]:
        """Return the values as float32: a bfloat16 is the upper half of a float32's bits."""
        if self.dtype == "BF16":
            return (self.bits.astype(np.uint32) << 16).view(np.float32)
        return self.bits.astype(np.float32)

    def is_nonzero(self) -> npt.NDArray[np.bool_]:
        """Return where the values differ from zero, of either sign."""
        return np.not_equal(self.bits & 0x7FFF if self.dtype == "BF16" else self.bits, 0)

    def scaled(self, factor: float) -> Matrix:
        """Return the matrix times *factor*, in float32; `AdapterRejected` where that is not finite."""
        with np.errstate(over="ignore"):
            scaled = Matrix(bits=(self.widened() * np.float32(factor)).astype("<f4"), dtype="F32")
        if not np.isfinite(scaled.bits).all():
            raise AdapterRejected(f"{WEIGHTS}: a weight times its scaling of {factor:g} (alpha and rank) is not finite")
        return scaled

    def padded(self, rows: int, columns: int) -> Matrix:
        """Return the matrix with *rows* and *columns* of zeros added."""
        return Matrix(bits=np.pad(self.bits, ((0, rows), (0, columns))), dtype=self.dtype)


def zeros(rows: int, columns: int) -> Matrix:
    """Return a matrix of zeros."""
    return Matrix(bits=np.zeros((rows, columns), "<f4"), dtype="F32")


def read_matrices(path: Path) -> Iterator[tuple[str, Matrix]]:
    """Yield every tensor of the safetensors file at *path* by name; `AdapterRejected` if the file is none."""
    check_weights_file(path)
    for name, dtype, bits in read_tensors(path):
        yield name, Matrix(bits=bits, dtype=dtype)


def check_lora_weight(name: str, matrix: Matrix) -> None:
    """Raise `AdapterRejected` unless *matrix* has two dimensions and finite values."""
    shape = list(matrix.bits.shape)
    if len(shape) != 2:
        gathered = "; was it saved without gathering the parts of ZeRO-3?" if 0 in shape else ""
        raise AdapterRejected(f"{WEIGHTS}: {name} is {shape}; a LoRA weight has two dimensions{gathered}")
    if not np.isfinite(matrix.widened()).all():
        raise AdapterRejected(
            f"{WEIGHTS}: {name} has values that are not finite (NaN or infinity): no numbers to serve"
        )


def has_effect(down: Matrix, up: Matrix) -> bool:
    """Whether the product `up @ down` is not zero by its factors: a column of *up* and its row of *down* are not."""
    return bool((up.is_nonzero().any(axis=0) & down.is_nonzero().any(axis=1)).any())


def check_effect(folder: Path) -> None:
    """Raise `AdapterRejected` if the adapter in *folder*, which is normalised, changes nothing."""
    up_suffix = ".lora_B.weight"
    matrices = dict(read_matrices(folder / WEIGHTS))  # views of the file, which is read as far as an effect is found
    downs = {name: matrices[name.replace(up_suffix, ".lora_A.weight")] for name in matrices if name.endswith(up_suffix)}
    if not any(has_effect(down, matrices[name]) for name, down in downs.items()):
        raise refuse_without_effect()


def refuse_without_effect() -> AdapterRejected:
    """Return the error for an adapter that computes what its base computes."""
    return AdapterRejected(
        f"{WEIGHTS}: the adapter has no effect: in each module lora_A, lora_B or the scaling is zero, so it "
        "changes nothing about the base model. Before training every lora_B is zero; was this saved before the first "
        "step, or after a run that went wrong?"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddedMatrix:
    """A matrix to write with *rows* and *columns* of zeros added, which are made when it is written."""

    matrix: Matrix
    rows: int
    columns: int

    @property
    def shape(self) -> list[int]:
        """Return rows and columns with those that are added."""
        rows, columns = self.matrix.bits.shape
        return [rows + self.rows, columns + self.columns]


def write_matrices(folder: Path, matrices: Mapping[str, PaddedMatrix]) -> None:
    """Write *matrices* as the adapter's weights in *folder*; one of them is in memory at a time.

    The bytes are those of safetensors, whose writer wants all tensors at once.
    """
    order = sorted(matrices, key=lambda name: (ORDER_OF_TYPES.index(matrices[name].matrix.dtype), name))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in order:
        found = matrices[name]
        begin, end = end, end + found.matrix.bits.itemsize * math.prod(found.shape)
        header[name] = {"dtype": found.matrix.dtype, "shape": found.shape, "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with (folder / WEIGHTS).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            found = matrices[name]
            file.write(np.ascontiguousarray(found.matrix.padded(found.rows, found.columns).bits).data)
