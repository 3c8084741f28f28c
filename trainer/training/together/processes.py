"""The processes that train one job together: what they agree on, and what the first one alone does."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import distributed

from trainer.progress import Progress, Report, StopAsked


class Processes:
    """All processes of a run, seen by one of them; a run of one process has no others to wait for."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size
        self.items = 0
        """Items of this process in the current step."""

    @property
    def is_first(self) -> bool:
        """Whether this process reports, seals checkpoints and writes the result."""
        return self.rank == 0

    def reports(self, report: Report) -> Report:
        """Return *report* for the first process, and one that drops everything for the others."""
        return report if self.is_first else _dropped

    def agreed(self, asked: StopAsked) -> Callable[[], bool]:
        """Return a question that all processes ask at the same point and answer alike: whether one was *asked*."""
        return asked if self.size == 1 else lambda: self._any(asked())

    def wait_for_all(self) -> None:
        """Return when every process has come here."""
        if self.size > 1:
            distributed.barrier()

    def mean(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Return the means over all processes, each weighted by its items of the step."""
        if self.size == 1:
            return dict(figures)
        every: list[tuple[int, dict[str, float]] | None] = [None] * self.size
        distributed.all_gather_object(every, (self.items, dict(figures)))
        shares = [share for share in every if share is not None]
        total = sum(items for items, _ in shares) or 1
        return {name: sum(items * each[name] for items, each in shares) / total for name in figures}

    def leave(self) -> None:
        """End the exchange with the others."""
        if self.size > 1:
            distributed.destroy_process_group()

    def _any(self, asked: bool) -> bool:
        flag = torch.tensor(int(asked))
        distributed.all_reduce(flag, op=distributed.ReduceOp.MAX)
        return bool(flag.item())


def join_processes(size: int, attempt_folder: Path) -> Processes:
    """Meet the other processes of the run in the attempt's folder; returns at once where there are none."""
    if size == 1:
        return Processes()
    rank = int(os.environ["RANK"])
    # Gloo beside NCCL: flags and figures are exchanged between the processors.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    meeting = f"file://{attempt_folder / 'meeting'}"
    distributed.init_process_group(backend, init_method=meeting, rank=rank, world_size=size)
    return Processes(rank, size)


def _dropped(_: Progress) -> None:
    return
