"""Check that a folder is a LoRA adapter that can be served on a base model. Reads headers only, without torch."""

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

UNSERVABLE: Final[Mapping[str, tuple[str, str]]] = {
    "alora_invocation_tokens": ("activated LoRA", "vLLM"),
    "fan_in_fan_out": ("transposed weights", "vLLM"),
    "layer_replication": ("replicated layers", "vLLM"),
    "lora_bias": ("a bias in the LoRA layers", "vLLM"),
    "modules_to_save": ("whole modules beside the LoRA weights", "the transformers engine"),
    "target_parameters": ("parameters as targets", "the transformers engine"),
    "trainable_token_indices": ("trained token embeddings", "the transformers engine"),
    "use_bdlora": ("block-diagonal LoRA", "vLLM"),
    "use_dora": ("DoRA", "vLLM"),
    "use_qalora": ("QALoRA", "vLLM"),
}
"""Fields of PEFT's LoraConfig that must be empty -> what they mean, and an engine that cannot serve it."""

TO_NORMALIZE: Final[Mapping[str, tuple[str, str]]] = {
    "alpha_pattern": ("another alpha for some modules", "LMDeploy"),
    "exclude_modules": ("targets that are not listed", "LMDeploy"),
    "rank_pattern": ("another rank for some modules", "LMDeploy"),
    "use_rslora": ("rank-stabilised scaling", "LMDeploy"),
}
"""Fields that `registry.publishing.normalize` resolves, so that they are empty in published adapters."""

NOT_ADAPTED: Final = re.compile(r"emb|^wte$|^wpe$|^lm_head$")
"""Last parts of the names of matrices outside the blocks, which the transformers engine does not adapt."""
TENSOR_NAME: Final = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterShape:
    """The rank and targets that a checked adapter needs of an engine."""

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
    modules = base_modules(Path(base.path))
    for target in target_modules:
        _check_target(target, rank, modules)


def check_adapter(folder: Path, base_folder: Path) -> AdapterShape:
    """Return the shape of an adapter that every engine serves as it is; `AdapterRejected` names file, field or tensor.

    `registry.publishing.normalize` makes such a folder of any adapter that can be served at all.
    """
    check_files(folder)
    config = read_config(folder)
    shape = _check_config(config)
    shapes = _read_shapes([folder / WEIGHTS], dtypes=DTYPES)
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


def check_files(folder: Path) -> None:
    """Raise `AdapterRejected` unless the folder has an adapter's files and no file that could run code."""
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


def read_config(folder: Path) -> Mapping[str, Any]:
    """Return the adapter's config; `AdapterRejected` if it is not a JSON object."""
    try:
        config = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError, RecursionError) as exc:
        raise AdapterRejected(f"{CONFIG}: not readable as JSON: {exc}") from exc
    if not isinstance(config, dict):
        raise AdapterRejected(f"{CONFIG}: not a JSON object")
    return config


def check_plain(config: Mapping[str, Any], unservable: Mapping[str, tuple[str, str]]) -> int:
    """Return the rank; `AdapterRejected` if not LoRA, with one of the *unservable* fields, or without rank or alpha."""
    if config.get("peft_type") != "LORA":
        raise refuse_field(config, "peft_type", "only LORA is served")
    if config.get("bias", "none") != "none":
        raise refuse_field(config, "bias", "only 'none' is served: the transformers engine adds no bias")
    for field, (meaning, engine) in unservable.items():
        if config.get(field):
            raise refuse_field(config, field, f"that means {meaning}, which {engine} cannot serve")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if type(rank) is not int or rank < 1:
        raise refuse_field(config, "r", "the rank must be a whole number from 1")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not alpha > 0:
        raise refuse_field(config, "lora_alpha", "it must be a number above 0")
    return rank


def refuse_field(config: Mapping[str, Any], field: str, why: str) -> AdapterRejected:
    """Return the error for a field of the adapter's config."""
    return AdapterRejected(f"{CONFIG}: {field} is {config.get(field)!r}; {why}")


def _check_config(config: Mapping[str, Any]) -> AdapterShape:
    rank = check_plain(config, {**UNSERVABLE, **TO_NORMALIZE})
    targets = config.get("target_modules")
    if not isinstance(targets, list) or not targets or not all(isinstance(name, str) and name for name in targets):
        example = '["q_proj", "v_proj"]'
        raise refuse_field(config, "target_modules", f"it must be a list of module names, for example {example}")
    return AdapterShape(rank=rank, target_modules=tuple(sorted(set(targets))))


def base_modules(base_folder: Path) -> Shapes:
    """Return the shapes (out, in) of the base's weights by module name; linear modules have two dimensions."""
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


def check_weights_file(path: Path) -> None:
    """Raise `AdapterRejected` unless *path* is a safetensors file of floating point numbers."""
    _read_shapes([path], DTYPES)


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
        there = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
        raise AdapterRejected(f"target_modules has {target!r}, which the base model lacks; it has {there}")
    narrowest = min(hit, key=hit.__getitem__)
    if rank > hit[narrowest]:
        raise AdapterRejected(f"rank {rank} is above {hit[narrowest]}, the smaller side of the base's {narrowest}")


def linear_modules(base: Shapes) -> dict[str, tuple[int, ...]]:
    """Return the modules of `base_modules` that an adapter may change."""
    return {name: shape for name, shape in base.items() if len(shape) == 2 and not _is_outside(name)}


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
