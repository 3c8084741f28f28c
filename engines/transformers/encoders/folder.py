"""The description of a model that embeds or ranks, read from its folder as sentence-transformers writes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from engines.base_task import MODULES, BaseTask, task_of
from engines.transformers.errors import UnsupportedModel

POOLINGS: Final = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
"""Ways to make one vector of a text's tokens, in the order in which several are put side by side."""
_SWITCHES: Final = MappingProxyType(
    {
        "pooling_mode_cls_token": "cls",
        "pooling_mode_max_tokens": "max",
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
        "pooling_mode_weightedmean_tokens": "weightedmean",
        "pooling_mode_lasttoken": "lasttoken",
    }
)
"""How sentence-transformers wrote `pooling_mode` up to its version 5."""
SCORES: Final = MappingProxyType({"Sigmoid": "sigmoid", "Identity": "identity"})
"""Activations of a cross-encoder's score, by the last part of their name."""
DENSE_ACTIVATIONS: Final = ("Tanh", "Identity", "GELU", "ReLU", "Sigmoid")


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseLayer:
    """A linear layer behind the pooling."""

    folder: Path
    activation: str
    """A name in `DENSE_ACTIVATIONS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderFolder:
    """How texts become vectors or scores, as the model's folder describes."""

    path: Path
    task: BaseTask
    poolings: tuple[str, ...] = ("mean",)
    dense: tuple[DenseLayer, ...] = ()
    normalizes: bool = False
    """Vectors have length 1."""
    longest: int | None = None
    """Most tokens of a text, special ones among them, where the folder gives a limit."""
    lowers_case: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    """Name -> text that goes before a text."""
    default_prompt: str | None = None
    """Name of the prompt of texts for which none is named."""
    score: str = "sigmoid"
    """The function over a cross-encoder's number: a value of `SCORES`."""


def read_folder(path: Path) -> EncoderFolder:
    """Read the description in *path*; `UnsupportedModel`. A folder without one is read as sentence-transformers does.

    That is the mean of the tokens, not normalised.
    """
    task = task_of(path)
    modules = _modules(path)
    own = _json(path / "config_sentence_transformers.json")
    sizes = next((_json(file) for file in sorted(path.glob("sentence_*_config.json"))), {})
    if task is BaseTask.RANK:
        _expect(path, [kind for kind, _ in modules], ("Transformer",))
    prompts = {str(name): str(text or "") for name, text in (own.get("prompts") or {}).items()}
    default = own.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise UnsupportedModel(f"{path}: default_prompt_name {default!r} is not one of its prompts")
    longest = sizes.get("max_seq_length")
    return EncoderFolder(
        path=path,
        task=task,
        poolings=_poolings(path, modules),
        dense=tuple(_dense(path / place) for kind, place in modules if kind == "Dense"),
        normalizes=any(kind == "Normalize" for kind, _ in modules),
        longest=None if longest is None else int(longest),
        lowers_case=bool(sizes.get("do_lower_case")),
        prompts=prompts,
        default_prompt=default,
        score=_score(path, own),
    )


def _modules(path: Path) -> list[tuple[str, str]]:
    """Return kind and folder of each module, in their order."""
    if not (path / MODULES).is_file():
        return []
    try:
        listed = sorted(json.loads((path / MODULES).read_bytes()), key=lambda module: int(module["idx"]))
        modules = [(str(module["type"]).rpartition(".")[2], str(module["path"])) for module in listed]
    except (ValueError, KeyError, TypeError) as exc:
        raise UnsupportedModel(f"{path / MODULES} is not a list of modules: {exc}") from exc
    kinds = [kind for kind, _ in modules]
    _expect(path, kinds, ("Transformer", "Pooling", "Dense", "Normalize"))
    if kinds[:1] != ["Transformer"] or kinds.count("Transformer") != 1 or modules[0][1] not in {"", "."}:
        raise UnsupportedModel(f"{path / MODULES}: the model itself must be the first module, in the folder itself")
    if sorted(kinds[1:], key=("Pooling", "Dense", "Normalize").index) != kinds[1:]:
        raise UnsupportedModel(f"{path / MODULES}: modules must be in the order Pooling, Dense, Normalize")
    return modules


def _expect(path: Path, kinds: list[str], known: tuple[str, ...]) -> None:
    for kind in kinds:
        if kind not in known:
            raise UnsupportedModel(f"{path / MODULES}: the module {kind} is not served, only {', '.join(known)}")


def _poolings(path: Path, modules: list[tuple[str, str]]) -> tuple[str, ...]:
    places = [place for kind, place in modules if kind == "Pooling"]
    if not places:
        return ("mean",)
    file = path / places[0] / "config.json"
    config = _json(file)
    if config.get("include_prompt") is False:
        raise UnsupportedModel(f"{file}: include_prompt = false is not served: pooling reads the prompt too")
    asked = config.get("pooling_mode") or [mode for switch, mode in _SWITCHES.items() if config.get(switch)] or "mean"
    poolings = (asked,) if isinstance(asked, str) else tuple(asked)
    for pooling in poolings:
        if pooling not in POOLINGS:
            raise UnsupportedModel(f"{file}: pooling {pooling!r} is not one of {', '.join(POOLINGS)}")
    return poolings


def _dense(folder: Path) -> DenseLayer:
    config = _json(folder / "config.json")
    activation = str(config.get("activation_function") or "Tanh").rpartition(".")[2]
    if activation not in DENSE_ACTIVATIONS:
        raise UnsupportedModel(f"{folder}: activation {activation!r} is not one of {', '.join(DENSE_ACTIVATIONS)}")
    if config.get("use_residual"):
        raise UnsupportedModel(f"{folder}: use_residual = true is not served")
    if not (folder / "model.safetensors").is_file():
        raise UnsupportedModel(f"{folder}: no model.safetensors with the layer's weights")
    return DenseLayer(folder=folder, activation=activation)


def _score(path: Path, own: Mapping[str, Any]) -> str:
    config = _json(path / "config.json")
    written = (
        own.get("activation_fn")
        or (config.get("sentence_transformers") or {}).get("activation_fn")
        or config.get("sbert_ce_default_activation_function")
        or "Sigmoid"
    )
    name = str(written).rpartition(".")[2]
    if name not in SCORES:
        raise UnsupportedModel(f"{path}: scores by {written!r} are not served, only {' and '.join(SCORES)}")
    return SCORES[name]


def _json(file: Path) -> Mapping[str, Any]:
    """Return the object in *file*; empty where there is no file."""
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_bytes())
    except ValueError as exc:
        raise UnsupportedModel(f"{file} is not JSON: {exc}") from exc
    if not isinstance(found, dict):
        raise UnsupportedModel(f"{file} is not a JSON object")
    return found
