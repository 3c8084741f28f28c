"""The facts about pictures in the folder of a base model: whether it takes them, and which modules see them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from registry.contracts.chat_template import read_chat_template

_PROCESSORS: Final = ("processor_config.json", "preprocessor_config.json")
_LANGUAGE: Final = re.compile(r"(?:^|\.)(?:language_model|text_model|llm)\.")
_OTHER: Final = re.compile(
    r"(?:^|\.)[^.]*(?:vision|visual|image|audio|video|projector|connector|resampler|merger|vpm|apm)"
)


def is_vision_base(folder: Path) -> bool:
    """Whether the model in *folder* has a part that sees."""
    try:
        config: Any = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):  # whoever loads the model reports it
        return False
    return isinstance(config, dict) and isinstance(config.get("vision_config"), dict)


def why_no_pictures(folder: Path) -> str | None:
    """Return why nobody can send the model in *folder* a picture; None if pictures can be sent."""
    if not is_vision_base(folder):
        return "takes no pictures"
    if not any((folder / name).is_file() for name in _PROCESSORS):
        return f"takes no pictures as it is: its folder has no {' or '.join(_PROCESSORS)}"
    if "image" not in read_chat_template(folder):
        return "takes no pictures in chats: its chat template renders none"
    return None


def of_language_model(modules: Iterable[str]) -> list[str]:
    """Return those of a model's *modules* that belong to its language model: all of them in a model without sight."""
    names = list(modules)
    below = [name for name in names if _LANGUAGE.search(name)]
    return below or [name for name in names if not _OTHER.search(name.rpartition(".")[0] + ".")]


def sees(module: str, language: Iterable[str]) -> bool:
    """Whether *module*, by the name in an adapter, is outside of the language model, whose modules are *language*."""
    return module not in set(language) and not _LANGUAGE.search(module) and _OTHER.search(module) is not None
