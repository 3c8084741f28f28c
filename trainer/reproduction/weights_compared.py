"""How far the weights of two folders differ, by kind of tensor. Numpy only, one pair of tensors in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Final

import numpy as np

from registry.contracts.reproductions.reproduction_report import GroupDifference, WeightsDifference
from registry.publishing.adapter_weights import Matrix
from registry.publishing.tensor_files import read_tensors

_PLAIN: Final = "weight"
"""Last part of most names, which carries no meaning."""


@dataclass(slots=True)
class _Sums:
    tensors: int = 0
    differing: int = 0
    largest: float = 0.0
    squares: float = 0.0
    differences: float = 0.0


def compare_weights(recorded: Path, again: Path) -> WeightsDifference:
    """Return how far the tensors of all safetensors files in the folder *again* differ from those in *recorded*."""
    before, after = _places(recorded), _places(again)
    both = [name for name in before if name in after and before[name][1].bits.shape == after[name][1].bits.shape]
    sums: dict[str, _Sums] = {}
    for name in both:
        _add(sums.setdefault(group_of(name), _Sums()), before[name][1], after[name][1])
    only_recorded, only_again = sorted(set(before) - set(both)), sorted(set(after) - set(both))
    return WeightsDifference(
        same_bytes=not only_recorded and not only_again and not any(each.differing for each in sums.values()),
        groups=[
            GroupDifference(
                group=group,
                tensors=each.tensors,
                differing=each.differing,
                largest=each.largest,
                relative=sqrt(each.differences) / sqrt(each.squares) if each.squares else float(each.differences > 0),
            )
            for group, each in sorted(sums.items())
        ],
        only_recorded=only_recorded,
        only_again=only_again,
    )


def group_of(name: str) -> str:
    """Return `q_proj.lora_A` for `...layers.0.self_attn.q_proj.lora_A.weight`: the last two parts with a meaning."""
    parts = [part for part in name.split(".") if not part.isdigit()]
    if len(parts) > 1 and parts[-1] == _PLAIN:
        parts.pop()
    return ".".join(parts[-2:])


def _places(folder: Path) -> Mapping[str, tuple[Path, Matrix]]:
    """Return the tensors of the folder's files by name; their bits stay in the files until they are looked at."""
    return {name: (path, matrix) for path in sorted(folder.glob("*.safetensors")) for name, matrix in _matrices(path)}


def _matrices(path: Path) -> Iterator[tuple[str, Matrix]]:
    for name, dtype, bits in read_tensors(path):
        yield name, Matrix(bits=bits, dtype=dtype)


def _add(sums: _Sums, before: Matrix, after: Matrix) -> None:
    sums.tensors += 1
    was = before.widened().astype(np.float64)
    sums.squares += float(np.square(was).sum())
    if before.dtype == after.dtype and before.bits.tobytes() == after.bits.tobytes():
        return
    sums.differing += 1
    difference = after.widened().astype(np.float64) - was
    sums.largest = max(sums.largest, float(np.abs(difference).max(initial=0.0)))
    sums.differences += float(np.square(difference).sum())
