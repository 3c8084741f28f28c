"""The files of a model that hold no weights."""

from __future__ import annotations

from pathlib import Path

from registry.publishing.harmless_files import is_harmless


def other_files(model_folder: Path) -> list[Path]:
    """Return the files that go with a quantized model too: config, tokenizer, templates, licence."""
    found = sorted(each for each in model_folder.iterdir() if each.is_file())
    return [each for each in found if is_harmless(each.name) and ".index." not in each.name]
