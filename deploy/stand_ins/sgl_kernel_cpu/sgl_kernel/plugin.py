"""A plugin of SGLang: without an accelerator, pinned memory is plain memory.

SGLang's LoRA code asks for pinned memory on every platform (`srt/lora/layers.py`, `srt/lora/backend/torch_backend.py`),
which PyTorch refuses where there is no accelerator. SGLang loads plugins in each of its processes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

_FACTORIES = ("tensor", "empty", "zeros", "ones", "arange", "full")


def no_pinned_memory() -> None:
    """PyTorch's factories ignore `pin_memory` in this process; nothing happens on a machine with an accelerator."""
    if torch.accelerator.is_available():
        return
    for name in _FACTORIES:
        setattr(torch, name, _without_pinning(getattr(torch, name)))
    torch.Tensor.pin_memory = lambda self, *_args, **_options: self


def _without_pinning(factory: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    @functools.wraps(factory)
    def plain(*args: Any, **options: Any) -> torch.Tensor:
        options.pop("pin_memory", None)
        return factory(*args, **options)

    return plain
