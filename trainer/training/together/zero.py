"""DeepSpeed's ZeRO on the processes of a run: its settings, and its weights put together again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import torch
from accelerate import PartialState
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

SHARED_MEMORY: Final = "deepspeed_shm_comm"
"""An operator for the exchange on one machine that DeepSpeed would compile at the first start; Gloo does without."""
ASKED: Final = "ACCELERATE_USE_DEEPSPEED"
"""The variable by which accelerate's state knows that DeepSpeed joins the processes."""
WEIGHTS_SPLIT: Final = 3
"""The stage of ZeRO from which on the weights are split."""


def zero_arguments(stage: int, backend: str) -> Mapping[str, Any]:
    """Return the arguments of the Trainer for a *stage* of ZeRO; the processes have met already.

    Without a GPU, transformers would not name the *backend* to accelerate, which then took each process for the only
    one. So the state is made here, and transformers is told to take what is there.
    """
    import deepspeed

    deepspeed.ops.__compatible_ops__[SHARED_MEMORY] = False
    os.environ[ASKED] = "true"
    try:
        PartialState(backend=backend)
    finally:
        del os.environ[ASKED]
    return {
        "deepspeed": _settings(stage),
        "accelerator_config": {"use_configured_state": True},
        # With either of these accelerate would take no notice of DeepSpeed, or DeepSpeed would round the weights.
        "use_cpu": False,
        "bf16": False,
    }


def _settings(stage: int) -> dict[str, Any]:
    """Return DeepSpeed's settings, with PyTorch's optimizer: DeepSpeed's own is compiled at the first start.

    transformers puts in its own arguments for `auto`; the size of the whole batch follows from them.
    """
    return {
        "zero_optimization": {"stage": stage, "stage3_gather_16bit_weights_on_model_save": True},
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": True,
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
    }


class ZeroWeights:
    """Weights that ZeRO-3 split."""

    @contextmanager
    def whole(self, wrapped: torch.nn.Module) -> Iterator[None]:
        """Gather all weights, and split them again afterwards.

        The hooks of ZeRO-3 are off in the block. They would split the weights of each layer after its pass, and compare
        with the other processes which layers each pass of a process went through.
        """
        import deepspeed

        engine: Any = wrapped
        hooked = engine.optimizer.parameter_offload
        with deepspeed.zero.GatheredParameters(list(wrapped.parameters())):
            hooked._remove_module_hooks()
            hooked.forward_hooks.clear()
            hooked.backward_hooks.clear()
            try:
                yield
            finally:
                hooked.setup_zero_stage3_hooks()

    def whole_weight(self, weight: torch.Tensor) -> torch.Tensor:
        """Gather the parts."""
        import deepspeed

        with deepspeed.zero.GatheredParameters([weight]):
            return weight.detach().clone()


def load_whole_from_now_on() -> None:
    """Have models that are loaded after training be whole, which transformers would split as they are loaded."""
    unset_hf_deepspeed_config()
