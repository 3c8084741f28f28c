"""Write a LoRA adapter as a GGUF file, which llama.cpp applies to the file of its base model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import gguf
import numpy as np

from exports.errors import NotExportable
from exports.gguf.families import read_sizes
from exports.gguf.model_file import as_llama, tensor_names
from registry.publishing.adapter_files import CONFIG, WEIGHTS
from registry.publishing.adapter_weights import read_matrices
from registry.publishing.checks import TENSOR_NAME

_SIDES: Final = {"A": "lora_a", "B": "lora_b"}


def write_adapter_gguf(adapter: Path, base: Path, target: Path, *, name: str) -> int:
    """Write the normalised adapter in the folder *adapter* for the model in *base*; return the number of its tensors.

    Matrices are float32. *base* needs its `config.json` only. Raises `NotExportable`.
    """
    sizes = read_sizes(base)
    config = json.loads((adapter / CONFIG).read_bytes())
    names = tensor_names(sizes)
    tensors = {}
    for stored, matrix in read_matrices(adapter / WEIGHTS):
        match = TENSOR_NAME.fullmatch(stored)
        found = None if match is None else names.get_name(f"{match['module']}.weight", try_suffixes=(".weight",))
        if match is None or found is None:
            raise NotExportable(f"GGUF: llama.cpp has no tensor for {stored} of this adapter")
        values = matrix.widened()
        # Rows of B are those of the layer, whose order differs where llama.cpp rotates neighbours.
        tensors[f"{found}.{_SIDES[match['side']]}"] = as_llama(values, stored, sizes)
    writer = gguf.GGUFWriter(target, sizes.family.architecture)
    try:
        writer.add_string("general.type", "adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_string("general.name", name)
        writer.add_float32("adapter.lora.alpha", float(config["lora_alpha"]))
        for tensor, values in sorted(tensors.items()):
            writer.add_tensor(tensor, np.ascontiguousarray(values))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
    return len(tensors)
