"""The weights of an adapter are written as safetensors writes them, one tensor at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import TensorSpec, serialize_file

from registry.publishing.adapter_files import WEIGHTS
from registry.publishing.adapter_weights import Matrix, PaddedMatrix, write_matrices
from registry.publishing.tensor_files import FLOATS


def test_the_bytes_are_those_of_safetensors(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    plans = {}
    for name, dtype in (("b", "F32"), ("a.\u00e4", "F16"), ("c", "BF16"), ("a", "F32"), ('q"\\', "BF16"), ("d", "F16")):
        bits = random.integers(0, 1 << 14, (3, 5)).astype(FLOATS[dtype][0])
        plans[name] = PaddedMatrix(matrix=Matrix(bits=bits, dtype=dtype), rows=len(name), columns=1)
    for count in range(1, len(plans) + 1):  # headers of every length
        some = dict([*plans.items()][:count])
        write_matrices(tmp_path, some)
        assert (tmp_path / WEIGHTS).read_bytes() == by_the_library(some, tmp_path / "library")


def by_the_library(plans: dict[str, PaddedMatrix], path: Path) -> bytes:
    padded = {name: plan.matrix.padded(plan.rows, plan.columns) for name, plan in plans.items()}
    tensors = {
        name: TensorSpec(
            dtype=FLOATS[matrix.dtype][1],
            shape=matrix.bits.shape,
            data_ptr=matrix.bits.ctypes.data,
            data_len=matrix.bits.nbytes,
        )
        for name, matrix in padded.items()
    }
    serialize_file(tensors, path, {"format": "pt"})
    return path.read_bytes()
