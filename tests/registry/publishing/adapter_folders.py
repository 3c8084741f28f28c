"""The parts that tests of adapters' folders share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from registry.publishing.checks import AdapterShape
from registry.publishing.normalize import normalize_adapter as normalize_for
from registry.types import Base

WEIGHTS = "adapter_model.safetensors"

Make = Callable[..., Path]
Array = npt.NDArray[np.floating[Any]]


def normalize_adapter(source: Path, target: Path, base: Base) -> AdapterShape:
    return normalize_for(source, target, base.name, Path(base.path)).shape


def rewritten(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS)
    return folder
