"""The ways in which a model is quantized: by llm-compressor, or as a GGUF file. Each is imported where it is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from trainer.quantizing.order import QuantizeOrder


class Quantizer(Protocol):
    """Writes a quantized model to the order's final folder."""

    libraries: tuple[str, ...]
    """Distributions beside PyTorch that the bytes depend on."""
    load_options: Mapping[str, str]
    """The arguments of `from_pretrained` that load the folder."""

    def quantize(self, model: Any) -> None:
        """Quantize *model*, which is of no use any more, and write the folder."""
        ...


def quantizer_of(order: QuantizeOrder) -> Quantizer:
    """Return the quantizer of the order's scheme."""
    if order.gguf_type is None:
        from trainer.quantizing.compressed_folder import CompressedFolder

        return CompressedFolder(order)
    from trainer.quantizing.gguf_folder import GgufFolder

    return GgufFolder(order)
