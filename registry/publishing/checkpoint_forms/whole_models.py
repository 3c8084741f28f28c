"""Check that a folder is a whole model of its parent's shape. Tensors are read singly, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from registry.artifacts import folder_files
from registry.errors import AdapterRejected
from registry.publishing.adapter_weights import Matrix
from registry.publishing.checks import base_files
from registry.publishing.harmless_files import is_harmless
from registry.publishing.tensor_files import FLOATS, Shapes, read_shapes, read_tensors

NEEDED: Final = ("config.json", "tokenizer_config.json")


def check_checkpoint(folder: Path, parent_folder: Path) -> None:
    """Raise `AdapterRejected` unless *folder* is a whole model of its parent's shape with other, finite weights."""
    names = folder_files(folder)
    for name in names:
        if not is_harmless(name) and Path(name).suffix != ".safetensors":
            raise AdapterRejected(f"{name}: not part of a checkpoint, or may run code when it is loaded")
    for name in NEEDED:
        if name not in names:
            raise AdapterRejected(f"{name}: missing; the folder has {', '.join(names) or 'no files'}")
    files, own = _weights(folder), _weights(parent_folder)
    if (shapes := read_shapes(files, FLOATS)) != (expected := read_shapes(own)):
        raise AdapterRejected(f"the checkpoint's tensors are not those of its parent: {_difference(shapes, expected)}")
    if not _differs(files, own):
        raise AdapterRejected("the checkpoint has no effect: all of its weights are those of its parent")


def _weights(folder: Path) -> list[Path]:
    return [path for path in base_files(folder) if path.is_file()]


def _difference(shapes: Shapes, expected: Shapes) -> str:
    for name in sorted({*shapes, *expected}):
        if shapes.get(name) != expected.get(name):
            found, wanted = shapes.get(name), expected.get(name)
            return f"{name} is {list(found) if found else 'missing'}, expected {list(wanted) if wanted else 'none'}"
    return "none"


def _differs(files: list[Path], own: list[Path]) -> bool:
    """Whether a weight differs; `AdapterRejected` names one that is not finite. Tensors are read singly."""
    parents = {name: path for path in own for name in read_shapes([path])}
    differs = False
    for path in files:
        for name, dtype, bits in read_tensors(path):
            values = Matrix(bits=bits, dtype=dtype).widened()
            if not np.isfinite(values).all():
                raise AdapterRejected(f"{path.name}: {name} has values that are not finite (NaN or infinity)")
            if not differs:
                found = ((kind, theirs) for other, kind, theirs in read_tensors(parents[name]) if other == name)
                differs = any(not np.array_equal(Matrix(bits=b, dtype=d).widened(), values) for d, b in found)
    return differs
