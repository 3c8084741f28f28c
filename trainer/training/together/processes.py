"""The processes that train one job together: what they agree on, and what the first one alone does."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from torch import distributed

from registry.contracts.parallel_spec import ParallelSpec
from trainer.progress import Progress, Report, StopAsked
from trainer.training.together.split_weights import SPLITTERS, SplitWeights

LONGEST_WAIT: Final = timedelta(days=1)
"""How long a process waits for another: graders may take their time, and the end of a process ends the others."""

_left: Final[list[Any]] = []
"""The group that was left last, kept until the process ends. If DDP's reducer were the last to let go of it, it would
wait, with Python's lock, for a thread of the group that may wait for that lock to release a tensor."""

T = TypeVar("T")


class Processes:
    """All processes of a run, seen by one of them; a run of one process has no others to wait for.

    What every process has to call, at the same point of its run, is marked so: the call waits for the others.
    """

    def __init__(self, rank: int = 0, size: int = 1, weights: SplitWeights | None = None) -> None:
        """*weights* puts together again what the processes split; None where each has all weights."""
        self.rank = rank
        self.size = size
        self._weights = weights
        self._wrapped: torch.nn.Module | None = None

    @property
    def is_first(self) -> bool:
        """Whether this process reports, seals checkpoints and writes the result."""
        return self.rank == 0

    def reports(self, report: Report) -> Report:
        """Return *report* for the first process, and one that drops everything for the others."""
        return report if self.is_first else _dropped

    def agreed(self, asked: StopAsked) -> Callable[[], bool]:
        """Return a question that all processes ask at the same point and answer alike: whether one was *asked*."""
        return asked if self.size == 1 else lambda: any(self.gathered(asked()))

    def wait_for_all(self) -> None:
        """Return when every process has come here."""
        if self.size > 1:
            distributed.barrier()

    def gathered(self, value: T) -> list[T]:
        """Return the values of all processes in their order; all must call it."""
        if self.size == 1:
            return [value]
        every: list[Any] = [None] * self.size
        distributed.all_gather_object(every, value)
        return every

    def from_first(self, make: Callable[[], T]) -> T:
        """Return in every process what *make* returns in the first one, the only one to call it; all must call this."""
        if self.size == 1:
            return make()
        made: list[Any] = [make() if self.is_first else None]
        distributed.broadcast_object_list(made)
        value: T = made[0]
        return value

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sums of *values* over all processes; all must call it."""
        if self.size == 1:
            return values
        summed = values.clone()
        distributed.all_reduce(summed)
        return summed

    def summed(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Return *sums* added up over all processes, by their names; all must call it."""
        added: dict[str, float] = {}
        for each in self.gathered(dict(sums)):
            for name, value in each.items():
                added[name] = added.get(name, 0.0) + value
        return added

    def wrap(self, wrapped: torch.nn.Module) -> None:
        """Take the model as the loop trains it, which splits the weights from now on."""
        self._wrapped = wrapped

    def whole(self) -> AbstractContextManager[object]:
        """Have all weights of the trained model in this process while the block runs; all must call it.

        In the block each process may compute as often as it likes: elsewhere every pass waits for the others' parts.
        """
        if self._weights is None or self._wrapped is None:
            return nullcontext()
        return self._weights.whole(self._wrapped)

    def whole_weight(self, weight: torch.Tensor) -> torch.Tensor:
        """Return *weight* whole; all must call it."""
        return weight if self._weights is None else self._weights.whole_weight(weight)

    def leave(self) -> None:
        """End the exchange with the others."""
        if self.size > 1:
            _left[:] = [distributed.group.WORLD]
            distributed.destroy_process_group()


def join_processes(parallel: ParallelSpec, attempt_folder: Path) -> Processes:
    """Meet the other processes of the run in the attempt's folder; returns at once where there are none."""
    if parallel.processes == 1:
        return Processes()
    rank = int(os.environ["RANK"])
    # Gloo beside NCCL: flags and figures are exchanged between the processors.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    meeting = f"file://{attempt_folder / 'meeting'}"
    distributed.init_process_group(
        backend, init_method=meeting, rank=rank, world_size=parallel.processes, timeout=LONGEST_WAIT
    )
    return Processes(rank, parallel.processes, SPLITTERS.get(parallel.parallelism))


def _dropped(_: Progress) -> None:
    return
