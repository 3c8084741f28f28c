"""Read and write the tensors of an adapter. Numpy only: bfloat16 is read by its bits."""

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
    "BF16": ("<u2", "bfloat16"),  # numpy lacks bfloat16: its bits
}
"""Type in the file -> numpy type of its bits, and its name for writing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A tensor of two dimensions; `bits` are its values, except for BF16."""

    bits: npt.NDArray[Any]
    dtype: str

    def widened(self) -> npt.NDArray[np.float32]:
        """Return the values as float32: a bfloat16 is the upper half of a float32's bits."""
        if self.dtype == "BF16":
            return (self.bits.astype(np.uint32) << 16).view(np.float32)
        return self.bits.astype(np.float32)

    def scaled(self, factor: float) -> Matrix:
        """Return the matrix times *factor*, in float32."""
        return Matrix(bits=(self.widened() * np.float32(factor)).astype("<f4"), dtype="F32")

    def padded(self, rows: int, columns: int) -> Matrix:
        """Return the matrix with *rows* and *columns* of zeros added."""
        return Matrix(bits=np.pad(self.bits, ((0, rows), (0, columns))), dtype=self.dtype)


def zeros(rows: int, columns: int) -> Matrix:
    """Return a matrix of zeros."""
    return Matrix(bits=np.zeros((rows, columns), "<f4"), dtype="F32")


def read_matrices(folder: Path) -> Iterator[tuple[str, Matrix]]:
    """Yield every tensor of the adapter in *folder* by name; `AdapterRejected` names one that is not finite."""
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
            raise AdapterRejected(f"{WEIGHTS}: {name} has values that are not finite")
        yield name, matrix


def write_matrices(folder: Path, matrices: Mapping[str, Matrix]) -> None:
    """Write *matrices* as the adapter's weights in *folder*; the same matrices give the same bytes."""
    kept = {
        name: np.ascontiguousarray(matrix.bits) for name, matrix in matrices.items()
    }  # `data_ptr` is valid only while these arrays live
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
