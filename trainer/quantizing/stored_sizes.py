"""Sizes of a model before and after it was quantized, from the headers of its files."""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from registry.publishing.checkpoint_forms.quantized_models import GGUF_FILE, quantized_weights
from registry.publishing.checks import base_files

NAMES: Final = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Type in a file -> its name in PyTorch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSizes:
    """How large a model is."""

    size_bytes: int
    base_size_bytes: int
    bits_per_weight: float
    """Bits of all stored tensors for each weight of the base, those that share memory counted once."""
    linear_bits_per_weight: float | None
    """The same of the quantized layers alone, their scales included; None for a GGUF file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    name: str
    dtype: str
    count: int
    size_bytes: int


def stored_sizes(base_folder: Path, folder: Path) -> StoredSizes:
    """Return the sizes of the quantized model in *folder*, made from the one in *base_folder*."""
    base = [each for path in base_files(base_folder) for each in _tensors(path)]
    weights = sum(each.count for each in base)
    sizes = {"size_bytes": _file_bytes(folder), "base_size_bytes": _file_bytes(base_folder)}
    if (folder / GGUF_FILE).is_file():
        bits = 8 * sizes["size_bytes"] / weights
        return StoredSizes(**sizes, bits_per_weight=bits, linear_bits_per_weight=None)
    made = [each for path in base_files(folder) for each in _tensors(path)]
    linear = quantized_weights(each.name for each in made)
    packed = sum(each.size_bytes for each in made if _owner(each.name) in linear)
    return StoredSizes(
        **sizes,
        bits_per_weight=8 * sum(each.size_bytes for each in made) / weights,
        linear_bits_per_weight=8 * packed / sum(each.count for each in base if each.name in linear),
    )


def stored_type(folder: Path) -> str:
    """Return PyTorch's name of the type in which the model in *folder* has most of its weights."""
    found: Counter[str] = Counter()
    for path in base_files(folder):
        for each in _tensors(path):
            found[each.dtype] += each.count
    return NAMES.get(found.most_common(1)[0][0], "float32")


def _owner(name: str) -> str:
    """Return the weight that a packed tensor, a scale or a zero point belongs to."""
    return name[: name.rindex(".weight") + len(".weight")] if ".weight_" in name else name


def _file_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in {".safetensors", ".gguf"})


def _tensors(path: Path) -> Iterator[_Stored]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            shape: Sequence[int] = entry["shape"]
            yield _Stored(name=name, dtype=entry["dtype"], count=math.prod(shape), size_bytes=end - begin)
