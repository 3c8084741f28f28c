"""The chat template of a base model's folder, as text: which parts of a chat a template can render at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_chat_template(folder: Path) -> str:
    """Return the text of every chat template in *folder*, joined; empty without a template."""
    found = [path.read_text(errors="replace") for path in _template_files(folder)]
    try:
        config: Any = json.loads((folder / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError):  # the trainer reports a broken tokenizer
        config = {}
    found.append(read_processor_template(folder) or "")
    written = config.get("chat_template") if isinstance(config, dict) else None
    named = written if isinstance(written, list) else [written]
    found += [str(entry.get("template", "") if isinstance(entry, dict) else entry or "") for entry in named]
    return "\n".join(filter(None, found))


def read_processor_template(folder: Path) -> str | None:
    """Return the chat template that older processors store in a file of their own; None without one."""
    try:
        stored: Any = json.loads((folder / "chat_template.json").read_bytes())
    except (OSError, ValueError):
        return None
    return stored["chat_template"] if isinstance(stored, dict) and "chat_template" in stored else None


def _template_files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("chat_template.jinja"), *folder.glob("additional_chat_templates/*.jinja")])
