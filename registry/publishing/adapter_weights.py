"""The tensors of an adapter as its file has them. Numpy only: bfloat16 is read by its bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, TensorSpec, deserialize, serialize_file

from registry.errors import AdapterRejected
from registry.publishing.checks import WEIGHTS, check_weights_file

DTYPES: Final[Mapping[str, tuple[str, str]]] = {
    "F32": ("<f4", "float32"),
    "F16": ("<f2", "float16"),
    "BF16": ("<u2", "bfloat16"),  # numpy has none: the bits
}
"""Type in the file -> its bits for numpy, and its name for writing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A tensor of two dimensions; `bits` are numbers but for BF16."""

    bits: npt.NDArray[Any]
    dtype: str

    def widened(self) -> npt.NDArray[np.float32]:
        """As float32: the upper half of a float32's bits are a bfloat16's."""
        if self.dtype == "BF16":
            return (self.bits.astype(np.uint32) << 16).view(np.float32)
        return self.bits.astype(np.float32)

    def scaled(self, factor: float) -> Matrix:
        """Times *factor*, in float32."""
        return Matrix(bits=(self.widened() * np.float32(factor)).astype("<f4"), dtype="F32")

    def padded(self, rows: int, columns: int) -> Matrix:
        """With so many rows and columns of zeros more."""
        return Matrix(bits=np.pad(self.bits, ((0, rows), (0, columns))), dtype=self.dtype)


def zeros(rows: int, columns: int) -> Matrix:
    """A matrix without effect."""
    return Matrix(bits=np.zeros((rows, columns), "<f4"), dtype="F32")


def read_matrices(folder: Path) -> Iterator[tuple[str, Matrix]]:
    """Every tensor of the adapter in *folder* by name; `AdapterRejected` names one that is no matrix of numbers."""
    check_weights_file(folder / WEIGHTS)
    try:
        tensors = deserialize((folder / WEIGHTS).read_bytes())  # type: ignore[no-untyped-call]
    except (OSError, SafetensorError) as exc:
        raise AdapterRejected(f"{WEIGHTS}: not readable: {exc}") from exc
    for name, tensor in tensors:
        bits = np.frombuffer(tensor["data"], DTYPES[tensor["dtype"]][0]).reshape(tensor["shape"])
        if bits.ndim != 2:
            raise AdapterRejected(f"{WEIGHTS}: {name} is {list(bits.shape)}; a LoRA weight has two dimensions")
        matrix = Matrix(bits=bits, dtype=tensor["dtype"])
        if not np.isfinite(matrix.widened()).all():
            raise AdapterRejected(f"{WEIGHTS}: {name} has values that are no numbers")
        yield name, matrix


def write_matrices(folder: Path, matrices: Mapping[str, Matrix]) -> None:
    """The adapter's weights in *folder* are *matrices*; the same ones give the same bytes."""
    kept = {name: np.ascontiguousarray(matrix.bits) for name, matrix in matrices.items()}  # as long as it is written
    tensors = {
        name: TensorSpec(
            dtype=DTYPES[matrices[name].dtype][1],
            shape=bits.shape,
            data_ptr=bits.ctypes.data,
            data_len=bits.nbytes,
        )
        for name, bits in sorted(kept.items())
    }
    serialize_file(tensors, folder / WEIGHTS, {"format": "pt"})
