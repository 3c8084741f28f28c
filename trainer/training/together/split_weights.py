"""Weights that are split among processes: whole for a while, or one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, Protocol

import torch
from torch.distributed.fsdp import FSDPModule

from registry.contracts.parallel_spec import Parallelism
from trainer.training.together.zero import ZeroWeights


class SplitWeights(Protocol):
    """Weights of which each process has a part; every process has to call the same at the same point."""

    def whole(self, wrapped: torch.nn.Module) -> AbstractContextManager[object]:
        """Have all weights whole in every process while the block runs, which computes without a gradient.

        *wrapped* is the model as the loop trains it. In the block each process may compute as often as it likes:
        elsewhere every pass waits for the others' parts.
        """
        ...

    def whole_weight(self, weight: torch.Tensor) -> torch.Tensor:
        """Return *weight* whole."""
        ...


class FsdpWeights:
    """Weights that FSDP2 split."""

    @contextmanager
    def whole(self, wrapped: torch.nn.Module) -> Iterator[None]:
        """Put the parts together, and split them again afterwards."""
        parts = [module for module in wrapped.modules() if isinstance(module, FSDPModule)]
        # The first part is the whole model. Its first pass would do this, but a process may have none in the block.
        for part in parts[:1]:
            part._get_fsdp_state()._lazy_init()
        for part in parts:
            part.unshard()
        try:
            with _kept_whole(parts):
                yield
        finally:
            for part in parts:
                part.reshard()

    def whole_weight(self, weight: torch.Tensor) -> torch.Tensor:
        """Gather the parts."""
        split: Any = weight  # a DTensor, as FSDP2 makes of each parameter
        whole: torch.Tensor = split.full_tensor()
        return whole


SPLITTERS: Final[Mapping[Parallelism, SplitWeights]] = {"fsdp2": FsdpWeights(), "deepspeed_zero3": ZeroWeights()}
"""Ways in which processes split the weights -> how they are put together again."""


@contextmanager
def _kept_whole(parts: Sequence[FSDPModule]) -> Iterator[None]:
    """Have no part split its weights again after it has computed."""
    groups = [group for part in parts for group in part._get_fsdp_state()._fsdp_param_groups]
    before = [group.post_forward_mesh_info for group in groups]
    for group in groups:
        group.post_forward_mesh_info = None
    try:
        yield
    finally:
        for group, meshes in zip(groups, before, strict=True):
            group.post_forward_mesh_info = meshes
