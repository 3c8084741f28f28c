"""The forms in which trained weights are written, for a result and for an earlier step of the same run alike."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file

from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.errors import AdapterRejected
from registry.publishing.adapter_files import WEIGHTS
from registry.publishing.normalize import normalize_adapter
from trainer.checkpoints import TRAINED
from trainer.errors import JobFailed
from trainer.order import ChildOrder
from trainer.training.base_model import load_base
from trainer.training.weights import add_stored, has_base_as_stored, load_stored, save_adapter


def as_served(order: ChildOrder[FineTuneSpec], model: PeftModel, folder: Path, name: str) -> PeftModel:
    """Return a model with the adapter in *folder* active, read back from disk, on the base as it is on disk.

    Replicas load those bytes, so the fingerprint is made of them.
    """
    if not has_base_as_stored(order.spec):
        return load_stored(load_base(order.base_path), folder)
    _load_published(model, folder, name)
    return model


def write_normal(order: ChildOrder[FineTuneSpec], model: PeftModel, target: Path) -> None:
    """Write the trained adapter to the new folder *target* as every engine reads it. Raises `JobFailed`."""
    folder = order.attempt_folder / TRAINED
    save_adapter(order, model, folder)
    try:
        normalize_adapter(folder, target, order.spec.base, order.base_path)
    except AdapterRejected as exc:  # weights that are not finite, though the loss was
        raise JobFailed("publish_failed", f"the trained adapter cannot be published: {exc}") from exc


def _load_published(model: PeftModel, folder: Path, name: str) -> None:
    """Have *model* compute with the adapter in *folder*, which gets *name* if it needs a place of its own."""
    trained, published = model.peft_config[model.active_adapter], LoraConfig.from_pretrained(folder)
    if _shape(trained) == _shape(published):
        # In the place of the trained adapter: another one beside it takes as long as the rest of the end.
        set_peft_model_state_dict(model, load_file(folder / WEIGHTS), adapter_name=model.active_adapter)
        return
    add_stored(model, folder, name)


def _shape(config: LoraConfig) -> tuple[int, int, bool, frozenset[str]]:
    return config.r, config.lora_alpha, config.use_rslora, frozenset(config.target_modules)


def loaded_to_merge(order: ChildOrder[FineTuneSpec]) -> PeftModel:
    """Return the base model as it is on disk with the adapter that was saved last."""
    dtype = None if has_base_as_stored(order.spec) else torch.float32
    return PeftModel.from_pretrained(load_base(order.base_path, dtype=dtype), order.attempt_folder / TRAINED)
