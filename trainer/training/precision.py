"""The type in which matrices are multiplied, by what was asked and by what the hardware has."""

from __future__ import annotations

import torch

from registry.contracts.weights_spec import Precision
from trainer.errors import JobFailed


def multiplies_bf16(asked: Precision) -> bool:
    """Whether matrices are multiplied in bfloat16, by autocast; `JobFailed` if that was asked for and is emulated.

    A CPU without instructions for bfloat16 takes five to eight times as long with it. On a CPU that has them, `auto`
    stays with float32, which replicas on CPUs compute in, so that a spec gives the same on all of them.
    """
    if torch.cuda.is_available():
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return has_bf16 and asked != "fp32"
    if asked != "bf16":
        return False
    if not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        raise JobFailed(
            "invalid_hyperparameters",
            "precision 'bf16' needs a GPU, or a CPU with AVX512_BF16 or AMX, which this machine lacks; take 'auto'",
            "hyperparameters",
        )
    return True
