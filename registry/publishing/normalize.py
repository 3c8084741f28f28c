"""Rewrite a LoRA adapter in the form that every engine reads.

The result has one rank, one alpha, no patterns, plain names of the base's own modules, weights for all layers of each
target, and a config of the fields that LMDeploy's PEFT reads. The result computes the same function. Numpy only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from registry.contracts.pictures.vision_base import sees
from registry.errors import AdapterRejected
from registry.publishing.adapter_config import UNSERVABLE, check_plain, read_config, refuse_field
from registry.publishing.adapter_files import CONFIG, WEIGHTS, left_out, top_names
from registry.publishing.adapter_weights import has_effect, refuse_without_effect, zeros
from registry.publishing.checks import AdapterShape, base_modules, linear_modules
from registry.publishing.lora_pairs import LoraPair, check_size, one_scaling, read_pairs, write_pairs
from registry.publishing.saved_weights import BaseWeights
from registry.publishing.tensor_files import Shapes

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

IN_BLOCK: Final = re.compile(r"(?:^|\.)(layers\.\d+\..+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalForm:
    """The outcome of `normalize_adapter`."""

    shape: AdapterShape
    dropped: tuple[str, ...]
    """Names of saved weights that are the base's own, and so are not needed."""


def normalize_adapter(
    source: Path, target: Path, base_name: str, base_folder: Path, limit_bytes: int | None = None
) -> NormalForm:
    """Write the adapter in *source* to the new folder *target* in the form that every engine serves alike.

    Other files in *source* are not read. `AdapterRejected` names the file, field or tensor that this form cannot
    express, with an engine that needs the form; or states that the adapter has no effect, or that the form has more
    than *limit_bytes* of weights.
    """
    left_out(top_names(source))
    config = read_config(source)
    _check_config(config)
    linear = linear_modules(base_modules(base_folder))
    found, dropped = read_pairs(source, config, BaseWeights(base_folder))
    placed: dict[str, LoraPair] = {}
    for module, pair in found.items():
        for name, part in _place(module, pair, linear):
            if name in placed:
                raise AdapterRejected(f"{WEIGHTS}: {module}: the base's {name} has weights twice")
            placed[name] = part
    _fill_layers(placed, linear)
    rank = legal_rank(max(pair.rank for pair in placed.values()))
    # Engines scale by alpha / rank, so alpha is computed for the padded rank, not for the trained one.
    alpha, pairs = one_scaling(placed, rank)
    if not any(has_effect(pair.down, pair.up) for pair in pairs.values()):
        raise refuse_without_effect()
    check_size(pairs, rank, limit_bytes)
    shape = AdapterShape(rank=rank, target_modules=tuple(sorted({name.rpartition(".")[2] for name in pairs})))
    target.mkdir(parents=True)
    write_pairs(target, pairs, rank)
    (target / CONFIG).write_text(json.dumps(_plain_config(base_name, shape, alpha), indent=2) + "\n")
    return NormalForm(shape=shape, dropped=tuple(dropped))


def legal_rank(rank: int) -> int:
    """Return the smallest rank from *rank* on that every engine takes; `AdapterRejected` above the largest."""
    for legal in LEGAL_RANKS:
        if rank <= legal:
            return legal
    raise AdapterRejected(f"rank {rank} is above {LEGAL_RANKS[-1]}, the highest that vLLM can serve")


def _plain_config(base_name: str, shape: AdapterShape, alpha: int) -> dict[str, Any]:
    """Return the fields that peft 0.14, which LMDeploy needs, reads; LMDeploy reads no config with any other field."""
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


def _place(module: str, pair: LoraPair, linear: Shapes) -> Iterator[tuple[str, LoraPair]]:
    """Yield the base's modules that *module* stands for, each with its part."""
    if sees(module, linear):
        raise AdapterRejected(
            f"{WEIGHTS}: {module} lies outside of the base's language model, such as in the part that sees pictures; "
            "engines serve adapters of the language model alone"
        )
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


def _fitted(module: str, pair: LoraPair, shape: tuple[int, ...]) -> LoraPair:
    wide, deep = shape
    if (pair.up.bits.shape[0], pair.down.bits.shape[1]) != (wide, deep):
        raise AdapterRejected(
            f"{WEIGHTS}: {module}.lora_A is {list(pair.down.bits.shape)} and lora_B {list(pair.up.bits.shape)}; "
            f"this base model needs {[pair.rank, deep]} and {[wide, pair.rank]}: another base"
        )
    return pair


def _fill_layers(placed: dict[str, LoraPair], linear: Shapes) -> None:
    """Add zeros for the layers that the adapter leaves out: LMDeploy expects every layer of a target."""

    def kind(name: str) -> str:
        return re.sub(r"(?<=\.)\d+(?=\.)", "N", name)

    kinds = {kind(name) for name in placed}
    for name, (wide, deep) in linear.items():
        if name not in placed and kind(name) in kinds:
            # Rank 1 is enough, as `_write_weights` pads every pair to the common rank.
            placed[name] = LoraPair(down=zeros(1, deep), up=zeros(wide, 1), scaling=0.0)
