"""The tasks of base models, where a request asks for more than one of them."""

from __future__ import annotations

from pathlib import Path

from engines.base_task import BaseTask, task_of
from registry.errors import AdapterRejected
from registry.types import Base


def generates(base: Base) -> bool:
    """Whether the base model writes texts, so that it can have adapters and be fine-tuned."""
    return task_of(Path(base.path)) is BaseTask.GENERATE


def check_generates(base: Base) -> None:
    """Raise `AdapterRejected` for a base model that embeds or ranks texts: it has no adapters and no fine-tunes."""
    task = task_of(Path(base.path))
    if task is not BaseTask.GENERATE:
        raise AdapterRejected(
            f"{base.name} is a model to {task} texts; it generates none, so it has no adapters and is not fine-tuned"
        )
