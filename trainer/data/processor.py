"""Load the processor of a base model that takes pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import transformers
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
from transformers.utils import is_torchvision_available

from trainer.errors import JobFailed

_CONFIGS: Final = ("processor_config.json", "preprocessor_config.json", "config.json")


def load_processor(folder: Path) -> Any:
    """Return the processor of the model in *folder*; `JobFailed` if it cannot be loaded.

    Videos need torchvision, whose builds go with one build of torch each; pictures do not need it. Without torchvision
    a processor that takes videos as well is loaded without that part.
    """
    try:
        kind = getattr(transformers, _class_name(folder), None)
        if kind is None or is_torchvision_available() or "video_processor" not in kind.get_attributes():
            return AutoProcessor.from_pretrained(folder, local_files_only=True)
        return _without_video(kind)(
            image_processor=AutoImageProcessor.from_pretrained(folder, local_files_only=True),
            tokenizer=AutoTokenizer.from_pretrained(folder, local_files_only=True),
            video_processor=None,
        )
    except (OSError, ValueError, KeyError, TypeError, ImportError) as exc:
        raise JobFailed("base_unreadable", f"the processor of the base model cannot be loaded: {exc}", "model") from exc


def _class_name(folder: Path) -> str:
    """Return the name of the processor's class; empty if no file has it."""
    for name in _CONFIGS:
        path = folder / name
        config = json.loads(path.read_bytes()) if path.is_file() else {}
        if found := config.get("processor_class") or PROCESSOR_MAPPING_NAMES.get(config.get("model_type", "")):
            return str(found)
    return ""


def _without_video(kind: type[Any]) -> type[Any]:
    class WithoutVideo(kind):  # type: ignore[misc]  # a class of transformers that the folder names
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            return None if argument is None else super().check_argument_for_proper_class(argument_name, argument)

    return WithoutVideo
