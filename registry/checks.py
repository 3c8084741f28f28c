"""Is this folder a LoRA adapter that can be served on that base? Reads headers only, needs no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open

from registry.artifacts import folder_files
from registry.errors import AdapterRejected
from registry.types import Base

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
BASE_WEIGHTS: Final = "model.safetensors"
BASE_INDEX: Final = "model.safetensors.index.json"

ADAPTER_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
HARMLESS_SUFFIXES: Final = frozenset({".json", ".jinja", ".jsonl", ".md", ".model", ".txt"})
PICKLE_SUFFIXES: Final = frozenset({".bin", ".ckpt", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth"})
PICKLE_STARTS: Final = (b"\x80", b"PK\x03\x04")  # a bare pickle; a zip archive, as torch.save writes it
DTYPES: Final = frozenset({"F32", "F16", "BF16"})

UNSERVABLE: Final[Mapping[str, str]] = {
    "alora_invocation_tokens": "activated LoRA",
    "alpha_pattern": "another alpha for some modules",
    "exclude_modules": "excluded modules; list only the targets",
    "fan_in_fan_out": "transposed weights",
    "layer_replication": "replicated layers",
    "lora_bias": "a bias in the LoRA layers",
    "modules_to_save": "whole modules beside the LoRA weights",
    "rank_pattern": "another rank for some modules",
    "target_parameters": "parameters as targets",
    "trainable_token_indices": "trained token embeddings",
    "use_dora": "DoRA",
    "use_qalora": "QALoRA",
}
"""Fields of PEFT's LoraConfig that must be empty, and what they would ask of an engine."""

EMBEDDING: Final = re.compile(r"emb|^wte$|^wpe$")
"""Last parts of the names of matrices that are no linear modules."""
TENSOR_NAME: Final = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterShape:
    """What a checked adapter asks of an engine."""

    rank: int
    target_modules: tuple[str, ...]
    """Last parts of module names, sorted."""


def check_adapter_name(name: str) -> None:
    """Raise `AdapterRejected` unless *name* can be part of a served name, a URL and a `ft:` alias."""
    if ADAPTER_NAME.fullmatch(name) is None:
        raise AdapterRejected(
            f"adapter name {name!r}: up to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"
        )


def check_targets(rank: int, target_modules: Iterable[str], base: Base) -> None:
    """Raise `AdapterRejected` unless an adapter of this shape can be trained on *base*."""
    modules = _base_modules(Path(base.path))
    for target in target_modules:
        _check_target(target, rank, modules)


def check_adapter(folder: Path, base_folder: Path) -> AdapterShape:
    """The shape of a servable adapter; `AdapterRejected` names file, field or tensor, and why."""
    _check_files(folder)
    config = _read_config(folder)
    shape = _check_config(config)
    shapes = _read_shapes([folder / WEIGHTS], dtypes=DTYPES)
    base = _base_modules(base_folder)
    for target in shape.target_modules:
        _check_target(target, shape.rank, base)
    _check_tensors(shapes, shape, base)
    return shape


def check_claim(folder: Path, base: Base, others: Iterable[Base]) -> None:
    """Raise `AdapterRejected` if the adapter's own config says that it was trained for one of *others*."""
    config = _read_config(folder)
    claimed = config.get("base_model_name_or_path"), config.get("revision")
    for other in others:
        if other.name == base.name or other.digest == base.digest:
            continue
        for field, value in zip(("base_model_name_or_path", "revision"), claimed, strict=True):
            if value in (other.name, other.path, other.digest):
                raise AdapterRejected(
                    f"{CONFIG}: {field} is {value!r}: it was trained for base model {other.name!r}, not {base.name!r}"
                )


def _check_files(folder: Path) -> None:
    names = folder_files(folder)
    for name in names:
        suffix = Path(name).suffix
        if suffix in PICKLE_SUFFIXES:
            raise AdapterRejected(f"{name}: may run code when it is loaded; only safetensors weights are accepted")
        if suffix not in HARMLESS_SUFFIXES and name != WEIGHTS:
            raise AdapterRejected(f"{name}: not part of an adapter; expected {CONFIG} and {WEIGHTS}")
    for name in (CONFIG, WEIGHTS):
        if name not in names:
            raise AdapterRejected(f"{name}: missing; the folder has {', '.join(names) or 'no files'}")


def _read_config(folder: Path) -> Mapping[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError, RecursionError) as exc:
        raise AdapterRejected(f"{CONFIG}: not readable as JSON: {exc}") from exc
    if not isinstance(config, dict):
        raise AdapterRejected(f"{CONFIG}: not a JSON object")
    return config


def _check_config(config: Mapping[str, Any]) -> AdapterShape:
    def refuse(field: str, why: str) -> AdapterRejected:
        return AdapterRejected(f"{CONFIG}: {field} is {config.get(field)!r}; {why}")

    if config.get("peft_type") != "LORA":
        raise refuse("peft_type", "only LORA is served")
    if config.get("bias", "none") != "none":
        raise refuse("bias", "only 'none' is served")
    for field, meaning in UNSERVABLE.items():
        if config.get(field):
            raise refuse(field, f"that means {meaning}, which is not served")
    rank, targets = config.get("r"), config.get("target_modules")
    if type(rank) is not int or rank < 1:
        raise refuse("r", "the rank must be a whole number from 1")
    alpha = config.get("lora_alpha")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not alpha > 0:
        raise refuse("lora_alpha", "it must be a number above 0")
    if not isinstance(targets, list) or not targets or not all(isinstance(name, str) and name for name in targets):
        raise refuse("target_modules", 'it must be a list of module names, for example ["q_proj", "v_proj"]')
    return AdapterShape(rank=rank, target_modules=tuple(sorted(set(targets))))


def _base_modules(base_folder: Path) -> Shapes:
    """Shapes (out, in) of the base's linear modules by full name."""
    index = base_folder / BASE_INDEX
    paths = [base_folder / BASE_WEIGHTS]
    if index.is_file():
        try:
            weight_map = json.loads(index.read_text())["weight_map"]
            paths = [base_folder / name for name in sorted(set(weight_map.values()))]
        except (ValueError, KeyError, AttributeError, TypeError) as exc:
            raise AdapterRejected(f"base model {base_folder}: {BASE_INDEX} is not readable: {exc}") from exc
    shapes = _read_shapes(paths)
    suffix = ".weight"
    return {name.removesuffix(suffix): shape for name, shape in shapes.items() if name.endswith(suffix)}


def _read_shapes(paths: Iterable[Path], dtypes: frozenset[str] | None = None) -> Shapes:
    return dict(chain.from_iterable(_read_header(path, dtypes) for path in paths))


def _read_header(path: Path, dtypes: frozenset[str] | None) -> Iterable[tuple[str, tuple[int, ...]]]:
    try:
        with safe_open(path, framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118  not a mapping
                part = tensors.get_slice(name)
                if dtypes is not None and part.get_dtype() not in dtypes:
                    raise AdapterRejected(
                        f"{path.name}: {name} is {part.get_dtype()}; only {', '.join(sorted(dtypes))} is served"
                    )
                yield name, tuple(part.get_shape())
    except (OSError, SafetensorError) as exc:
        found = "a pickle under another name" if _is_pickle(path) else f"not readable: {exc}"
        raise AdapterRejected(f"{path.name}: only safetensors weights are accepted; this is {found}") from exc


def _is_pickle(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4).startswith(PICKLE_STARTS)
    except OSError:
        return False


def _check_tensors(shapes: Shapes, shape: AdapterShape, base: Shapes) -> None:
    modules: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, tensor_shape in sorted(shapes.items()):
        match = TENSOR_NAME.fullmatch(name)
        if match is None:
            raise AdapterRejected(f"{WEIGHTS}: {name} is no LoRA weight of a linear module")
        modules.setdefault(match["module"], {})[match["side"]] = tensor_shape
    for target in shape.target_modules:
        if not any(_is_target(name, target) for name in modules):
            raise AdapterRejected(f"{WEIGHTS}: no weights for {target!r} of {CONFIG}'s target_modules")
    for module, sides in modules.items():
        if not any(_is_target(module, target) for target in shape.target_modules):
            raise AdapterRejected(f"{WEIGHTS}: {module} has weights but is none of {CONFIG}'s target_modules")
        _check_module(module, sides, shape.rank, base)


def _check_target(target: str, rank: int, base: Shapes) -> None:
    linear = {name: shape for name, shape in base.items() if len(shape) == 2 and not _is_embedding(name)}
    hit = {name: min(shape) for name, shape in linear.items() if _is_target(name, target)}
    if not hit:
        there = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
        raise AdapterRejected(f"target_modules has {target!r}, which the base model lacks; it has {there}")
    narrowest = min(hit, key=hit.__getitem__)
    if rank > hit[narrowest]:
        raise AdapterRejected(f"rank {rank} is above {hit[narrowest]}, the smaller side of the base's {narrowest}")


def _is_embedding(module: str) -> bool:
    return EMBEDDING.search(module.rpartition(".")[2]) is not None


def _is_target(module: str, target: str) -> bool:
    return module == target or module.endswith(f".{target}")


def _check_module(module: str, sides: Mapping[str, tuple[int, ...]], rank: int, base: Shapes) -> None:
    if set(sides) != {"A", "B"}:
        raise AdapterRejected(f"{WEIGHTS}: {module} has lora_{''.join(sides)} only; both A and B are needed")
    if len(base.get(module, ())) != 2:
        raise AdapterRejected(f"{WEIGHTS}: {module} is no linear module of the base model; is it for another base?")
    wide, deep = base[module]
    expected = {"A": (rank, deep), "B": (wide, rank)}
    for side, shape in sides.items():
        if shape != expected[side]:
            raise AdapterRejected(
                f"{WEIGHTS}: {module}.lora_{side} is {list(shape)}; rank {rank} on this base model needs "
                f"{list(expected[side])}: another rank than {CONFIG}'s r, or another base"
            )
