"""Rewrite a LoRA adapter in the form that every engine reads.

The result has one rank, one alpha, no patterns, plain names of the base's own modules, weights for all layers of each
target, and a config of the fields that LMDeploy's PEFT knows. The result computes the same function. Numpy only.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from registry.errors import AdapterRejected
from registry.publishing.adapter_weights import Matrix, read_matrices, write_matrices, zeros
from registry.publishing.checks import (
    CONFIG,
    UNSERVABLE,
    WEIGHTS,
    AdapterShape,
    Shapes,
    base_modules,
    check_files,
    check_plain,
    linear_modules,
    read_config,
    refuse_field,
)

LEGAL_RANKS: Final = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM has a `--max-lora-rank` for; other ranks are padded with zeros."""

READ_BY_ALL: Final = frozenset({"r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern", "use_rslora"})
"""Fields that change the computation and that the result can express."""
WITHOUT_EFFECT: Final = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "bias",
        "corda_config",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_dropout",
        "lora_ga_config",
        "megatron_config",
        "megatron_core",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
        "task_type",
    }
)
"""Fields that describe the training, or name modules, which the weights name too."""
KEEPS_BASE: Final = frozenset({"gaussian", "eva", "orthogonal", "lora_ga", "mica"})
"""Initialisations that leave the base's weights unchanged; PiSSA, OLoRA, CorDA and LoftQ change them."""

FUSED: Final[Mapping[str, tuple[str, ...]]] = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
}
"""Module that some trainers fuse -> the base's modules, whose outputs are concatenated in the fused output."""

TENSOR_NAME: Final = re.compile(
    r"(?:base_model\.model\.)*(?P<module>.+)\.lora_(?P<side>[AB])(?:\.(?!weight$)[^.]+)?\.weight"
)
IN_BLOCK: Final = re.compile(r"(?:^|\.)(layers\.\d+\..+)$")

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Both factors of one module: the adapter adds `scaling * up @ down` to the module's weight."""

    down: Matrix
    """[rank, in]"""
    up: Matrix
    """[out, rank]"""
    scaling: float

    @property
    def rank(self) -> int:
        return int(self.down.bits.shape[0])


def normalize_adapter(source: Path, target: Path, base_name: str, base_folder: Path) -> AdapterShape:
    """Write the adapter in *source* to the new folder *target* in the form that every engine serves alike.

    `AdapterRejected` names the file, field or tensor that this form cannot express, and an engine that needs the form.
    """
    check_files(source)
    config = read_config(source)
    _check_config(config)
    linear = linear_modules(base_modules(base_folder))
    placed: dict[str, _Pair] = {}
    for module, pair in _read_pairs(source, config).items():
        for name, part in _place(module, pair, linear):
            if name in placed:
                raise AdapterRejected(f"{WEIGHTS}: {module}: the base's {name} has weights twice")
            placed[name] = part
    _fill_layers(placed, linear)
    rank = legal_rank(max(pair.rank for pair in placed.values()))
    # Engines scale by alpha / rank, so alpha is computed for the padded rank, not for the trained one.
    alpha, pairs = _one_scaling(placed, rank)
    shape = AdapterShape(rank=rank, target_modules=tuple(sorted({name.rpartition(".")[2] for name in pairs})))
    target.mkdir(parents=True)
    _write_weights(target, pairs, rank)
    (target / CONFIG).write_text(json.dumps(_plain_config(base_name, shape, alpha), indent=2) + "\n")
    return shape


def legal_rank(rank: int) -> int:
    """Return the smallest rank from *rank* on that every engine takes; `AdapterRejected` above the largest."""
    for legal in LEGAL_RANKS:
        if rank <= legal:
            return legal
    raise AdapterRejected(f"rank {rank} is above {LEGAL_RANKS[-1]}, the highest that vLLM can serve")


def _plain_config(base_name: str, shape: AdapterShape, alpha: int) -> dict[str, Any]:
    """Return the fields that peft 0.14, which LMDeploy needs, knows; LMDeploy reads no config with any other field."""
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": base_name,
        "task_type": "CAUSAL_LM",
        "inference_mode": True,
        "r": shape.rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "target_modules": list(shape.target_modules),
        "bias": "none",
        "fan_in_fan_out": False,
        "modules_to_save": None,
        "init_lora_weights": True,
        "use_rslora": False,
    }


def _check_config(config: Mapping[str, Any]) -> None:
    check_plain(config, UNSERVABLE)
    init = config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower() not in KEEPS_BASE:
        why = "the weights go with a changed base, which vLLM cannot serve; convert them with PEFT's"
        raise refuse_field(config, "init_lora_weights", f"{why} path_initial_model_for_weight_conversion")
    known = READ_BY_ALL | WITHOUT_EFFECT | set(UNSERVABLE)
    for field in sorted(set(config) - known):
        if config[field]:
            raise refuse_field(config, field, "this field is not known, and engines would ignore it silently")
    for field in ("rank_pattern", "alpha_pattern"):
        patterns = config.get(field) or {}
        if not isinstance(patterns, dict) or not all(_is_positive(value) for value in patterns.values()):
            raise refuse_field(config, field, "it must give module names a number above 0")


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _read_pairs(folder: Path, config: Mapping[str, Any]) -> dict[str, _Pair]:
    """Return module, as the adapter names it, -> its factors; every tensor is used or refused."""
    sides: dict[str, dict[str, Matrix]] = {}
    for name, matrix in read_matrices(folder):
        match = TENSOR_NAME.fullmatch(name)
        if match is None:
            raise AdapterRejected(f"{WEIGHTS}: {name} is not a LoRA weight of a linear module")
        found = sides.setdefault(match["module"], {})
        if match["side"] in found:
            raise AdapterRejected(f"{WEIGHTS}: {match['module']} has lora_{match['side']} twice")
        found[match["side"]] = matrix
    if not sides:
        raise AdapterRejected(f"{WEIGHTS}: the file has no weights")
    return {module: _pair(module, found, config) for module, found in sorted(sides.items())}


def _pair(module: str, sides: Mapping[str, Matrix], config: Mapping[str, Any]) -> _Pair:
    if set(sides) != {"A", "B"}:
        raise AdapterRejected(f"{WEIGHTS}: {module} has lora_{''.join(sides)} only; both A and B are needed")
    rank = _by_pattern(config.get("rank_pattern"), module, config["r"])
    alpha = _by_pattern(config.get("alpha_pattern"), module, config["lora_alpha"])
    found = sides["A"].bits.shape[0], sides["B"].bits.shape[1]
    if found != (rank, rank):
        raise AdapterRejected(f"{WEIGHTS}: {module} has ranks {found[0]} and {found[1]}; {CONFIG} has {rank}")
    scaling = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return _Pair(down=sides["A"], up=sides["B"], scaling=scaling)


def _by_pattern(patterns: Mapping[str, Value] | None, module: str, default: Value) -> Value:
    """Return the value of the first pattern that matches the module's name, or its end after a dot, as PEFT does."""
    for pattern, value in (patterns or {}).items():
        try:
            if re.match(rf"(.*\.)?({pattern})$", module):
                return value
        except re.error as exc:
            raise AdapterRejected(f"{CONFIG}: {pattern!r} is not a valid pattern: {exc}") from exc
    return default


def _place(module: str, pair: _Pair, linear: Shapes) -> Iterator[tuple[str, _Pair]]:
    """Yield the base's modules that *module* stands for, each with its part."""
    name = _resolve(module, linear)
    if name is not None:
        yield name, _fitted(module, pair, linear[name])
        return
    parent, _, last = module.rpartition(".")
    parts = [_resolve(f"{parent}.{part}", linear) for part in FUSED.get(last, ())]
    names = [part for part in parts if part is not None]
    if not names or len(names) < len(parts):
        raise AdapterRejected(f"{WEIGHTS}: {module} is not a linear module of the base model; is it for another base?")
    ends = np.cumsum([linear[part][0] for part in names])
    # Checked as a whole, because the split below does not notice missing rows.
    _fitted(module, pair, (int(ends[-1]), linear[names[0]][1]))
    # The fused output is the parts' outputs side by side: `up` is split by rows, and every part keeps all of `down`.
    for part, rows in zip(names, np.split(pair.up.bits, ends[:-1]), strict=True):
        yield part, replace(pair, up=replace(pair.up, bits=rows))


def _resolve(module: str, linear: Shapes) -> str | None:
    """Return the base's own name of *module*, whose parents may differ there; None unless exactly one fits."""
    if module in linear:
        return module
    match = IN_BLOCK.search(module)
    if match is None:
        return None
    alike = [name for name in linear if name == match[1] or name.endswith(f".{match[1]}")]
    return alike[0] if len(alike) == 1 else None


def _fitted(module: str, pair: _Pair, shape: tuple[int, ...]) -> _Pair:
    wide, deep = shape
    if (pair.up.bits.shape[0], pair.down.bits.shape[1]) != (wide, deep):
        raise AdapterRejected(
            f"{WEIGHTS}: {module}.lora_A is {list(pair.down.bits.shape)} and lora_B {list(pair.up.bits.shape)}; "
            f"this base model needs {[pair.rank, deep]} and {[wide, pair.rank]}: another base"
        )
    return pair


def _fill_layers(placed: dict[str, _Pair], linear: Shapes) -> None:
    """Add zeros for the layers that the adapter leaves out: LMDeploy expects every layer of a target."""

    def kind(name: str) -> str:
        return re.sub(r"(?<=\.)\d+(?=\.)", "N", name)

    kinds = {kind(name) for name in placed}
    for name, (wide, deep) in linear.items():
        if name not in placed and kind(name) in kinds:
            # Rank 1 is enough, as `_write_weights` pads every pair to the common rank.
            placed[name] = _Pair(down=zeros(1, deep), up=zeros(wide, 1), scaling=0.0)


def _one_scaling(placed: Mapping[str, _Pair], rank: int) -> tuple[int, Mapping[str, _Pair]]:
    """Return one alpha for all pairs; where no whole number fits, each scaling goes into the pair's second factor."""
    scalings = {pair.scaling for pair in placed.values() if pair.scaling}
    alpha = rank * max(scalings)
    if len(scalings) == 1 and alpha.is_integer():
        return int(alpha), placed
    # With alpha equal to the rank the engine scales by 1, and each pair brings its own scaling.
    return rank, {name: replace(pair, up=pair.up.scaled(pair.scaling)) for name, pair in placed.items()}


def _write_weights(folder: Path, pairs: Mapping[str, _Pair], rank: int) -> None:
    matrices = {}
    for name, pair in pairs.items():
        # Zero rows of A meet zero columns of B, so the product stays the same.
        missing = rank - pair.rank
        matrices[f"base_model.model.{name}.lora_A.weight"] = pair.down.padded(missing, 0)
        matrices[f"base_model.model.{name}.lora_B.weight"] = pair.up.padded(0, missing)
    write_matrices(folder, matrices)
