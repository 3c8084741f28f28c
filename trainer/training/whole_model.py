"""Write a whole model as a folder beside its base's: the same files, tensors, names and types, with other weights."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from registry.artifacts import folder_files
from registry.errors import AdapterRejected
from registry.publishing.checks import BASE_INDEX, base_files
from registry.publishing.harmless_files import is_harmless
from trainer.errors import JobFailed

STORED_TYPES: Final[Mapping[str, torch.dtype]] = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}


def check_savable(base_folder: Path) -> None:
    """Raise `JobFailed` unless all of the base's tensors are of types that training can give back."""
    for names in _stored(base_folder).values():
        for name, dtype in names.items():
            if dtype not in STORED_TYPES:
                raise JobFailed(
                    "invalid_hyperparameters",
                    f"the base model's {name} is {dtype}: a checkpoint needs a base whose weights are not quantized",
                    "hyperparameters",
                )


def stored_types(base_folder: Path) -> frozenset[str]:
    """Return the types of the base's tensors, as safetensors names them."""
    return frozenset(dtype for names in _stored(base_folder).values() for dtype in names.values())


def write_model(model: PreTrainedModel, base_folder: Path, target: Path) -> None:
    """Write *model* to the new folder *target*, file by file as the base has its tensors.

    At most a single file is in memory besides the model at a time. `JobFailed` if the model lacks a tensor of its base.
    """
    target.mkdir(parents=True)
    # Without a copy: tensors are cast one after the other below. Stored tensors may have other names than modules.
    state = revert_weight_conversion(model, model.state_dict())
    for path, names in _stored(base_folder).items():
        if missing := sorted(set(names) - set(state)):
            raise JobFailed("base_unreadable", f"the loaded model has no tensor {missing[0]} as its base's files do")
        # Copies, since safetensors writes no two names for one memory, as tied weights have.
        tensors = {
            name: state[name].detach().to("cpu", STORED_TYPES[dtype], copy=True) for name, dtype in names.items()
        }
        save_file(tensors, target / path.name, {"format": "pt"})
    for name in folder_files(base_folder):
        is_weights = name.endswith(".safetensors.index.json") and name != BASE_INDEX
        if is_harmless(name) and not is_weights:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            # Without the mode: files in the store are read-only.
            shutil.copyfile(base_folder / name, target / name)


def _stored(base_folder: Path) -> dict[Path, dict[str, str]]:
    """Return each file of the base's weights -> its tensors with their types."""
    try:
        found = {}
        for path in base_files(base_folder):
            with safe_open(path, framework="pt") as tensors:
                found[path] = {name: tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118
    except (AdapterRejected, OSError, SafetensorError) as exc:
        raise JobFailed("base_unreadable", f"the base model's weights cannot be read: {exc}", "model") from exc
    return found
