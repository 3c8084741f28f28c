"""The states of all random generators of a process: torch's, those of GPUs, Python's and NumPy's."""

from __future__ import annotations

import pickle
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Generators:
    """States of the random generators of a process."""

    of_torch: torch.Tensor
    on_gpus: list[torch.Tensor]
    of_python: tuple[Any, ...]
    of_numpy: dict[str, Any]

    def restore(self) -> None:
        """Give the generators these states."""
        torch.set_rng_state(self.of_torch)
        if self.on_gpus:
            torch.cuda.set_rng_state_all(self.on_gpus)
        random.setstate(self.of_python)
        np.random.set_state(self.of_numpy)

    def equals(self, other: Generators) -> bool:
        """Whether nothing was drawn between the two."""
        tensors = zip([self.of_torch, *self.on_gpus], [other.of_torch, *other.on_gpus], strict=True)
        return (
            all(torch.equal(one, another) for one, another in tensors)
            and self.of_python == other.of_python
            and pickle.dumps(self.of_numpy) == pickle.dumps(other.of_numpy)
        )


def generators() -> Generators:
    """Return the present states."""
    return Generators(
        of_torch=torch.get_rng_state(),
        on_gpus=torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        of_python=random.getstate(),
        of_numpy=np.random.get_state(legacy=False),
    )
