"""Quantize a model as a GGUF file, beside the config and tokenizer of its base."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from exports.errors import NotExportable
from exports.gguf.model_file import GgufType, write_gguf
from registry.publishing.checkpoint_forms.quantized_models import GGUF_FILE
from trainer.quantizing.model_files import other_files
from trainer.quantizing.order import CannotQuantize, QuantizeOrder


class GgufFolder:
    """Writes the file from the folder of the model; what is in memory is not needed."""

    libraries: tuple[str, ...] = ("gguf",)
    load_options: Mapping[str, str] = {"gguf_file": GGUF_FILE}

    def __init__(self, order: QuantizeOrder) -> None:
        self._order = order

    def quantize(self, model: Any) -> None:
        """Write the folder. `CannotQuantize` for a model that has no GGUF form."""
        source, target = Path(self._order.model_folder), Path(self._order.final_folder)
        target.mkdir(parents=True)
        kind = cast("GgufType", self._order.gguf_type)
        try:
            write_gguf(source, target / GGUF_FILE, kind, name=self._order.name, about={})
        except NotExportable as exc:
            raise CannotQuantize(str(exc)) from exc
        for path in other_files(source):
            shutil.copyfile(path, target / path.name)
