"""The files of a model that hold no weights."""

from __future__ import annotations

from pathlib import Path
from typing import Final

KEPT: Final = frozenset({".json", ".jinja", ".model", ".txt", ".md"})


def other_files(model_folder: Path) -> list[Path]:
    """Return the files that go with a quantized model too: config, tokenizer, templates, licence."""
    return [each for each in sorted(model_folder.iterdir()) if each.suffix in KEPT and ".index." not in each.name]
