"""Quantize a model by llm-compressor, and bring the folder that the library writes into the form that is published."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from datasets import Dataset
from llmcompressor import oneshot
from safetensors.torch import load_file, save_file

from trainer.quantizing.model_files import other_files
from trainer.quantizing.modifiers import modifiers_of
from trainer.quantizing.order import QuantizeOrder

CONFIG: Final = "config.json"


class CompressedFolder:
    """Writes a folder in the format of compressed-tensors."""

    libraries: tuple[str, ...] = ("llmcompressor", "compressed-tensors")
    load_options: Mapping[str, str] = {}

    def __init__(self, order: QuantizeOrder) -> None:
        self._order = order

    def quantize(self, model: Any) -> None:
        """Quantize *model* and write the folder."""
        order = self._order
        rows = Dataset.from_list([{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in order.calibration])
        model = oneshot(
            model=model,
            dataset=rows,
            recipe=modifiers_of(order.scheme, order.group_size),
            num_calibration_samples=len(order.calibration),
            max_seq_length=max(map(len, order.calibration)),
            shuffle_calibration_samples=False,
            pipeline="sequential",
        )
        model.save_pretrained(order.final_folder, save_compressed=True)
        self._finish(Path(order.final_folder), Path(order.model_folder))

    def _finish(self, folder: Path, model_folder: Path) -> None:
        """Store what is not quantized as the model had it, and copy the model's other files, so that bytes repeat.

        The model was loaded in float32, which would double the embedding. Scales of groups get the model's type too;
        those of whole rows stay in float32, as their rounding would count as much as that of 8-bit weights.
        """
        dtype = getattr(torch, self._order.stored_type)
        for path in sorted(folder.glob("*.safetensors")):
            tensors = load_file(path)
            stored = {name: _stored(name, tensors[name], dtype) for name in sorted(tensors)}
            save_file(stored, path, {"format": "pt"})
        config = json.loads((folder / CONFIG).read_text())
        config["dtype"] = self._order.stored_type
        config.pop("_name_or_path", None)
        for path in folder.iterdir():
            if path.suffix != ".safetensors" and ".index." not in path.name:
                path.unlink()
        for path in other_files(model_folder):
            shutil.copyfile(path, folder / path.name)
        (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _stored(name: str, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    is_row_scale = name.endswith("weight_scale") and tensor.shape[-1] == 1
    if not tensor.is_floating_point() or tensor.element_size() == 1 or is_row_scale:
        return tensor.contiguous()
    return tensor.to(dtype).contiguous()
