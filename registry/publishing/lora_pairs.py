"""The two factors of each module that an adapter changes: read, scaled, padded, written."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from registry.errors import AdapterRejected
from registry.publishing.adapter_files import CONFIG, WEIGHTS, cut_name
from registry.publishing.adapter_patterns import by_pattern
from registry.publishing.adapter_weights import (
    Matrix,
    PaddedMatrix,
    check_lora_weight,
    read_matrices,
    write_matrices,
)
from registry.publishing.saved_weights import BaseWeights

TENSOR_NAME: Final = re.compile(
    r"(?:base_model\.model\.)*(?P<module>.+)\.lora_(?P<side>[AB])(?:\.(?!weight$)[^.]+)?\.weight"
)
WRAPPERS: Final = frozenset(
    {
        "_checkpoint_wrapped_module",
        "_forward_module",
        "_fsdp_wrapped_module",
        "_orig_mod",
        "module",
    }
)
"""Parts that gradient checkpointing, Lightning, FSDP, `torch.compile` and data parallelism add to a module's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraPair:
    """Both factors of one module: the adapter adds `scaling * up @ down` to the module's weight."""

    down: Matrix
    """[rank, in]"""
    up: Matrix
    """[out, rank]"""
    scaling: float

    @property
    def rank(self) -> int:
        return int(self.down.bits.shape[0])


def read_pairs(folder: Path, config: Mapping[str, Any], base: BaseWeights) -> tuple[dict[str, LoraPair], list[str]]:
    """Return module, as the adapter names it, -> its factors; and the names of saved weights that are the base's own.

    Every tensor is used, found to be the base's, or refused with `AdapterRejected`.
    """
    sides, dropped = _read_sides(folder, base)
    return _pairs(sides, config), dropped


def _read_sides(folder: Path, base: BaseWeights) -> tuple[dict[str, dict[str, Matrix]], list[str]]:
    """Return module, as the adapter names it, -> "A" and "B" -> factor; and the names of weights of the base's own."""
    sides: dict[str, dict[str, Matrix]] = {}
    dropped = []
    for name, matrix in read_matrices(folder / WEIGHTS):
        plain = ".".join(part for part in name.split(".") if part not in WRAPPERS)
        match = TENSOR_NAME.fullmatch(plain)
        if match is None:
            base.check_same(plain, matrix)
            dropped.append(name)
            continue
        check_lora_weight(name, matrix)
        found = sides.setdefault(match["module"], {})
        if match["side"] in found:
            raise AdapterRejected(f"{WEIGHTS}: {cut_name(match['module'])} has lora_{match['side']} twice")
        found[match["side"]] = matrix
    if not sides:
        raise AdapterRejected(f"{WEIGHTS}: the file has no weights of LoRA")
    return sides, dropped


def _pairs(sides: Mapping[str, Mapping[str, Matrix]], config: Mapping[str, Any]) -> dict[str, LoraPair]:
    """Return module -> both factors with their scaling; every tensor is used or refused."""
    ranks, alphas = (by_pattern(config, field, sides) for field in ("rank_pattern", "alpha_pattern"))
    pairs = {}
    for module, found in sorted(sides.items()):
        if set(found) != {"A", "B"}:
            raise AdapterRejected(
                f"{WEIGHTS}: {cut_name(module)} has lora_{''.join(found)} only; both A and B are needed"
            )
        rank, alpha = ranks.get(module, config["r"]), alphas.get(module, config["lora_alpha"])
        seen = found["A"].bits.shape[0], found["B"].bits.shape[1]
        if seen != (rank, rank):
            raise AdapterRejected(
                f"{WEIGHTS}: {cut_name(module)} has ranks {seen[0]} and {seen[1]}; {CONFIG} has {rank}"
            )
        scaling = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
        pairs[module] = LoraPair(down=found["A"], up=found["B"], scaling=scaling)
    return pairs


def one_scaling(placed: Mapping[str, LoraPair], rank: int) -> tuple[int, Mapping[str, LoraPair]]:
    """Return one alpha for all pairs; where no whole number fits, each scaling goes into the pair's second factor."""
    scalings = {pair.scaling for pair in placed.values() if pair.scaling}
    alpha = rank * max(scalings)
    if len(scalings) == 1 and alpha.is_integer():
        return int(alpha), placed
    # With alpha equal to the rank the engine scales by 1, and each pair brings its own scaling.
    return rank, {name: replace(pair, up=pair.up.scaled(pair.scaling)) for name, pair in placed.items()}


def check_size(pairs: Mapping[str, LoraPair], rank: int, limit_bytes: int | None) -> None:
    """Raise `AdapterRejected` if padding makes more of the weights than *limit_bytes*.

    A few weights of a high rank may stand for gigabytes of zeros.
    """
    sides = [
        side for pair in pairs.values() for side in ((pair.down, pair.down.bits.shape[1]), (pair.up, len(pair.up.bits)))
    ]
    size = sum(matrix.bits.itemsize * rank * length for matrix, length in sides)
    if limit_bytes is not None and size > limit_bytes:
        raise AdapterRejected(
            f"{WEIGHTS}: {size} bytes once every layer of a target has rank {rank}, as engines need it; up to "
            f"{limit_bytes} (max_upload_bytes) are taken: use one rank, or fewer targets"
        )


def write_pairs(folder: Path, pairs: Mapping[str, LoraPair], rank: int) -> None:
    """Write *pairs*, padded to *rank*, as the weights of the adapter in *folder*."""
    matrices = {}
    for name, pair in pairs.items():
        # Zero rows of A meet zero columns of B, so the product stays the same.
        missing = rank - pair.rank
        matrices[f"base_model.model.{name}.lora_A.weight"] = PaddedMatrix(matrix=pair.down, rows=missing, columns=0)
        matrices[f"base_model.model.{name}.lora_B.weight"] = PaddedMatrix(matrix=pair.up, rows=0, columns=missing)
    write_matrices(folder, matrices)
