"""A chat model with a few of its layers: its tokenizer and template are the real ones, and its answers come soon."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Final

from safetensors.torch import load_file, save_file

LAYERS: Final = 2
WEIGHTS: Final = "model.safetensors"


def save_shallow(whole: Path, folder: Path) -> None:
    """Write the model in the folder *whole* to a new *folder*, without its layers after the first two."""
    shutil.copytree(whole, folder, ignore=shutil.ignore_patterns(WEIGHTS))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": LAYERS}))
    tensors = load_file(whole / WEIGHTS)
    further = tuple(f"model.layers.{at}." for at in range(LAYERS, config["num_hidden_layers"]))
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(further)}
    save_file(kept, folder / WEIGHTS, metadata={"format": "pt"})
