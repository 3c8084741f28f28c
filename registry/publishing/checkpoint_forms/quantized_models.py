"""Check that a folder is a quantized model of its parent's shape. Headers and scales are read, without torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from registry.artifacts import folder_files
from registry.errors import AdapterRejected
from registry.publishing.adapter_weights import Matrix
from registry.publishing.checkpoint_forms.whole_models import NEEDED
from registry.publishing.checks import base_files
from registry.publishing.harmless_files import is_harmless
from registry.publishing.tensor_files import read_shapes, read_tensors

GGUF_FILE: Final = "model.gguf"
GGUF_MAGIC: Final = b"GGUF"
METHOD: Final = "compressed-tensors"
_PARTS: Final = re.compile(r"(?P<weight>.+\.weight)_(packed|scale|zero_point|shape|g_idx)")
"""Tensors that stand for a quantized weight, or beside one that keeps its name."""
_TYPES: Final = dict.fromkeys(("F32", "F16", "BF16", "I8", "I32", "I64", "U8", "F8_E4M3"))
"""Types of tensors that the folder may have."""


def quantization_of(folder: Path) -> Mapping[str, Any] | None:
    """Return what the folder's `config.json` states about its quantization; None for weights in full precision."""
    config = json.loads((folder / "config.json").read_text())
    found = config.get("quantization_config")
    return found if isinstance(found, dict) else None


def quantized_weights(names: Iterable[str]) -> frozenset[str]:
    """Return the weights of which *names* have scales."""
    return frozenset(match["weight"] for name in names if (match := _PARTS.fullmatch(name)))


def check_quantized(folder: Path, parent_folder: Path) -> None:
    """Raise `AdapterRejected` unless *folder* has its parent's tensors, some of them quantized, with finite values."""
    _check_files(folder, ".safetensors")
    stated = quantization_of(folder)
    if stated is None or stated.get("quant_method") != METHOD:
        raise AdapterRejected(f"config.json: quantization_config does not name {METHOD}")
    files = [path for path in base_files(folder) if path.is_file()]
    shapes = read_shapes(files, _TYPES)
    parents = read_shapes(base_files(parent_folder))
    quantized = quantized_weights(shapes)
    present = quantized | {name for name in shapes if not _PARTS.fullmatch(name)}
    if missing := sorted(set(parents) - present):
        raise AdapterRejected(f"the checkpoint has no tensor {missing[0]}, which its parent has")
    if more := sorted(present - set(parents)):
        raise AdapterRejected(f"the checkpoint has a tensor {more[0]}, which its parent does not have")
    if not quantized:
        raise AdapterRejected("the checkpoint has no effect: none of its weights is quantized")
    for name in sorted(present - quantized):
        if shapes[name] != parents[name]:
            raise AdapterRejected(f"{name} is {list(shapes[name])}, expected {list(parents[name])}")
    _check_finite(files)


def check_gguf(folder: Path, parent_folder: Path) -> None:
    """Raise `AdapterRejected` unless *folder* has one GGUF file, beside its parent's config and tokenizer."""
    _check_files(folder, ".gguf")
    names = [name for name in folder_files(folder) if name.endswith(".gguf")]
    if names != [GGUF_FILE]:
        raise AdapterRejected(f"expected the one file {GGUF_FILE}, found {', '.join(names) or 'none'}")
    with (folder / GGUF_FILE).open("rb") as file:
        if file.read(len(GGUF_MAGIC)) != GGUF_MAGIC:
            raise AdapterRejected(f"{GGUF_FILE}: not a GGUF file")
    if (folder / "config.json").read_bytes() != (parent_folder / "config.json").read_bytes():
        raise AdapterRejected("config.json: not that of the parent")


def _check_files(folder: Path, weights: str) -> None:
    names = folder_files(folder)
    for name in names:
        if not is_harmless(name) and Path(name).suffix != weights:
            raise AdapterRejected(f"{name}: not part of a checkpoint, or may run code when it is loaded")
    for name in NEEDED:
        if name not in names:
            raise AdapterRejected(f"{name}: missing; the folder has {', '.join(names) or 'no files'}")


def _check_finite(files: Iterable[Path]) -> None:
    for path in files:
        for name, dtype, bits in read_tensors(path):
            if not np.isfinite(Matrix(bits=bits, dtype=dtype).widened()).all():
                raise AdapterRejected(f"{path.name}: {name} has values that are not finite (NaN or infinity)")
