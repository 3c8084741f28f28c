"""Read from a base model's folder whether it generates text, embeds texts, or ranks documents."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

ENCODERS: Final = frozenset(
    {"albert", "bert", "camembert", "deberta-v2", "distilbert", "electra", "eurobert", "gte", "modernbert", "mpnet"}
    | {"nomic_bert", "roberta", "xlm-roberta"}
)
"""Values of `model_type` whose models read a text in both directions and generate none."""
MODULES: Final = "modules.json"
"""The file by which sentence-transformers knows the parts of a model; only models that embed or rank have one."""
_RANKS: Final = "ForSequenceClassification"


class BaseTask(StrEnum):
    """The task that requests ask of a base model."""

    GENERATE = "generate"  # chats and completions
    EMBED = "embed"  # vectors of texts
    RANK = "rank"  # scores of pairs of query and document, by a cross-encoder


def task_of(folder: Path) -> BaseTask:
    """Return what the model in *folder* is for; a folder without a readable `config.json` counts as one that chats."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return BaseTask.GENERATE
    return task_by(config if isinstance(config, dict) else {}, has_modules=(folder / MODULES).is_file())


def task_by(config: Mapping[str, Any], *, has_modules: bool) -> BaseTask:
    """Return what the model with this `config.json` is for; *has_modules*: its folder is of sentence-transformers."""
    if any(str(name).endswith(_RANKS) for name in config.get("architectures") or ()):
        return BaseTask.RANK
    if has_modules or config.get("model_type") in ENCODERS:
        return BaseTask.EMBED
    return BaseTask.GENERATE
