"""Check that a folder is a LoRA adapter that can be served on a base model. Reads headers only, without torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from registry.artifacts import folder_files
from registry.contracts.pictures.vision_base import of_language_model
from registry.errors import AdapterRejected
from registry.publishing.adapter_config import TO_NORMALIZE, UNSERVABLE, check_plain, read_config, refuse_field
from registry.publishing.adapter_files import CONFIG, WEIGHTS
from registry.publishing.harmless_files import is_harmless
from registry.publishing.tensor_files import FLOATS, Shapes, read_shapes
from registry.types import Base

BASE_WEIGHTS: Final = "model.safetensors"
BASE_INDEX: Final = "model.safetensors.index.json"

PICKLE_SUFFIXES: Final = frozenset({".bin", ".ckpt", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth"})

NOT_ADAPTED: Final = re.compile(r"emb|^wte$|^wpe$|^lm_head$")
"""Last parts of the names of matrices outside the blocks, which the transformers engine does not adapt."""
TENSOR_NAME: Final = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterShape:
    """The rank and targets that a checked adapter needs of an engine."""

    rank: int
    target_modules: tuple[str, ...]
    """Last parts of module names, sorted."""


def check_targets(rank: int, target_modules: Iterable[str], base: Base) -> None:
    """Raise `AdapterRejected` unless an adapter of this shape can be trained on *base*."""
    modules = base_modules(Path(base.path))
    for target in target_modules:
        _check_target(target, rank, modules)


def check_adapter(folder: Path, base_folder: Path, beside: Sequence[str] = ()) -> AdapterShape:
    """Return the shape of an adapter that every engine serves as it is; `AdapterRejected` names file, field or tensor.

    *beside* are further files that the folder may have.
    `registry.publishing.normalize` makes such a folder of any adapter that can be served at all.
    """
    check_files(folder, beside)
    config = read_config(folder)
    shape = _check_config(config)
    shapes = read_shapes([folder / WEIGHTS], FLOATS)
    base = base_modules(base_folder)
    _check_tensors(shapes, shape, base)
    return shape


def check_claim(folder: Path, base: Base, others: Iterable[Base]) -> None:
    """Raise `AdapterRejected` if the adapter's own config names one of *others* as its base model."""
    config = read_config(folder)
    claimed = config.get("base_model_name_or_path"), config.get("revision")
    for other in others:
        # Bases with one digest are the same weights under two names.
        if other.name == base.name or other.digest == base.digest:
            continue
        for field, value in zip(("base_model_name_or_path", "revision"), claimed, strict=True):
            if value in (other.name, other.path, other.digest):
                raise AdapterRejected(
                    f"{CONFIG}: {field} is {value!r}: it was trained for base model {other.name!r}, not {base.name!r}"
                )


def check_files(folder: Path, beside: Sequence[str] = ()) -> None:
    """Raise `AdapterRejected` unless the folder has an adapter's files, and of others only harmless ones and *beside*.

    A pickle could run code.
    """
    names = [name for name in folder_files(folder) if name not in beside]
    for name in names:
        suffix = Path(name).suffix
        if suffix in PICKLE_SUFFIXES:
            raise AdapterRejected(f"{name}: may run code when it is loaded; only safetensors weights are accepted")
        if not is_harmless(name) and name != WEIGHTS:
            raise AdapterRejected(f"{name}: not part of an adapter; expected {CONFIG} and {WEIGHTS}")
    for name in (CONFIG, WEIGHTS):
        if name not in names:
            raise AdapterRejected(f"{name}: missing; the folder has {', '.join(names) or 'no files'}")


def _check_config(config: Mapping[str, Any]) -> AdapterShape:
    rank = check_plain(config, {**UNSERVABLE, **TO_NORMALIZE})
    targets = config.get("target_modules")
    if not isinstance(targets, list) or not targets or not all(isinstance(name, str) and name for name in targets):
        example = '["q_proj", "v_proj"]'
        raise refuse_field(config, "target_modules", f"it must be a list of module names, for example {example}")
    return AdapterShape(rank=rank, target_modules=tuple(sorted(set(targets))))


def base_files(base_folder: Path) -> list[Path]:
    """Return the files that hold the base's weights."""
    index = base_folder / BASE_INDEX
    if not index.is_file():
        return [base_folder / BASE_WEIGHTS]
    try:
        weight_map = json.loads(index.read_text())["weight_map"]
        return [base_folder / name for name in sorted(set(weight_map.values()))]
    except (ValueError, KeyError, AttributeError, TypeError) as exc:
        raise AdapterRejected(f"base model {base_folder}: {BASE_INDEX} is not readable: {exc}") from exc


def base_modules(base_folder: Path) -> Shapes:
    """Return the shapes (out, in) of the base's weights by module name; linear modules have two dimensions."""
    shapes = read_shapes(base_files(base_folder))
    suffix = ".weight"
    return {name.removesuffix(suffix): shape for name, shape in shapes.items() if name.endswith(suffix)}


def _check_tensors(shapes: Shapes, shape: AdapterShape, base: Shapes) -> None:
    modules: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, tensor_shape in sorted(shapes.items()):
        match = TENSOR_NAME.fullmatch(name)
        if match is None:
            raise AdapterRejected(f"{WEIGHTS}: {name} is not a LoRA weight of a linear module")
        modules.setdefault(match["module"], {})[match["side"]] = tensor_shape
    for target in shape.target_modules:
        if not any(_is_target(name, target) for name in modules):
            raise AdapterRejected(f"{WEIGHTS}: no weights for {target!r} of {CONFIG}'s target_modules")
    for module, sides in modules.items():
        if not any(_is_target(module, target) for target in shape.target_modules):
            raise AdapterRejected(f"{WEIGHTS}: {module} has weights but is not among {CONFIG}'s target_modules")
        _check_module(module, sides, shape.rank, base)


def _check_target(target: str, rank: int, base: Shapes) -> None:
    linear = linear_modules(base)
    hit = {name: min(shape) for name, shape in linear.items() if _is_target(name, target)}
    if not hit:
        if any(_is_target(name, target) for name, shape in base.items() if len(shape) == 2 and not _is_outside(name)):
            raise AdapterRejected(
                f"target_modules has {target!r}, which is no linear module of the base's language model; what lies "
                "outside of that, such as the part that sees pictures, stays as it is"
            )
        there = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
        raise AdapterRejected(f"target_modules has {target!r}, which the base model lacks; it has {there}")
    narrowest = min(hit, key=hit.__getitem__)
    if rank > hit[narrowest]:
        raise AdapterRejected(f"rank {rank} is above {hit[narrowest]}, the smaller side of the base's {narrowest}")


def linear_modules(base: Shapes) -> dict[str, tuple[int, ...]]:
    """Return the modules of `base_modules` that an adapter may change: of a model that sees, the language model's."""
    linear = {name: shape for name, shape in base.items() if len(shape) == 2 and not _is_outside(name)}
    return {name: linear[name] for name in of_language_model(linear)}


def _is_outside(module: str) -> bool:
    return NOT_ADAPTED.search(module.rpartition(".")[2]) is not None


def _is_target(module: str, target: str) -> bool:
    return module == target or module.endswith(f".{target}")


def _check_module(module: str, sides: Mapping[str, tuple[int, ...]], rank: int, base: Shapes) -> None:
    if set(sides) != {"A", "B"}:
        raise AdapterRejected(f"{WEIGHTS}: {module} has lora_{''.join(sides)} only; both A and B are needed")
    if len(base.get(module, ())) != 2:
        raise AdapterRejected(f"{WEIGHTS}: {module} is not a linear module of the base model; is it for another base?")
    wide, deep = base[module]
    expected = {"A": (rank, deep), "B": (wide, rank)}
    for side, shape in sides.items():
        if shape != expected[side]:
            raise AdapterRejected(
                f"{WEIGHTS}: {module}.lora_{side} is {list(shape)}; rank {rank} on this base model needs "
                f"{list(expected[side])}: another rank than {CONFIG}'s r, or another base"
            )
