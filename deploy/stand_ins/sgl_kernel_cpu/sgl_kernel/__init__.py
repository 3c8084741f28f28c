"""Stand-in for SGLang's compiled CPU kernels, in plain PyTorch, for tests and development machines.

On a CPU without Intel AMX, SGLang itself falls back to plain PyTorch for attention, norms, rotary embedding,
activations and sampling. Two operations have no fallback; they are here. Every other name imports, and raises when it
is called.
Nothing is said by this about the speed or the numbers of SGLang's kernels.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, NoReturn

import torch

__version__ = "0.1.0"


def assign_req_to_token_pool_cpu(
    req_pool_indices: torch.Tensor,
    req_to_token: torch.Tensor,
    start_offset: torch.Tensor,
    end_offset: torch.Tensor,
    out_cache_loc: torch.Tensor,
    pool_len: int,
) -> None:
    """Row `req_pool_indices[i]` of *req_to_token* holds, from start to end of i, the next places of *out_cache_loc*."""
    taken = 0
    rows = zip(req_pool_indices.tolist(), start_offset.tolist(), end_offset.tolist(), strict=True)
    for row, start, end in rows:
        places = out_cache_loc[taken : taken + end - start]
        req_to_token[row, start:end] = places.to(req_to_token.dtype)
        taken += end - start


def copy_all_layer_kv_cache_cpu(
    data_ptrs: torch.Tensor, strides: torch.Tensor, tgt_loc: torch.Tensor, src_loc: torch.Tensor
) -> None:
    """In every layer's buffer rows *tgt_loc* hold what *src_loc* held; row i is `stride` bytes at `ptr + i * stride`.

    All rows are read before the first is written, as the two may overlap.
    """
    sources, targets = src_loc.tolist(), tgt_loc.tolist()
    for pointer, stride in zip(data_ptrs.tolist(), strides.tolist(), strict=True):
        rows = [ctypes.string_at(pointer + source * stride, stride) for source in sources]
        for target, row in zip(targets, rows, strict=True):
            ctypes.memmove(pointer + target * stride, row, stride)


def __getattr__(name: str) -> Callable[..., NoReturn]:
    if name.startswith("__"):
        raise AttributeError(name)

    def missing(*_args: Any, **_options: Any) -> NoReturn:
        raise RuntimeError(f"sgl_kernel.{name} is not in the CPU stand-in: it runs plain decoding with LoRA, no more")

    missing.__name__ = name
    return missing
