"""A base model that stays in memory, and the turns in which several jobs of one process train on it.

A job runs in a thread of its own, which computes only while it has the turn. It hands the turn on between two steps
and gets everything back as it left it that belongs to the process: the states of the random generators, and the state
that accelerate shares between all its objects. So each result is the one that the job has when it is alone.
"""

from __future__ import annotations

import copy
import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition
from typing import Any, Final

import numpy as np
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from transformers import PreTrainedModel

from trainer.training.base_model import load_base

SHARED_BY_ACCELERATE: Final = (PartialState, AcceleratorState, GradientState)


class ResidentBase:
    """The weights of one base model, loaded once; every job gets modules of its own around them."""

    def __init__(self, path: Path, signature: Callable[[], object]) -> None:
        """*signature* returns what differs once a file in the folder *path* has changed; then it is loaded again."""
        self._path = path
        self._signature = signature
        self._loaded: tuple[PreTrainedModel, object] | None = None

    def for_a_job(self) -> PreTrainedModel:
        """Return a model whose weights are the shared ones, which nobody may write to."""
        signature = self._signature()
        if self._loaded is None or self._loaded[1] != signature:
            self._loaded = None  # before the next one is loaded: memory may not hold both
            self._loaded = (load_base(self._path), signature)
        model = self._loaded[0]
        shared = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
        return copy.deepcopy(model, shared)


class Turns:
    """The jobs of a process, of which one computes at a time, in the order in which they came back."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._queue: deque[Turn] = deque()

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """Yield the turn of a new job once it has come, and pass it on at the end."""
        turn = Turn(self)
        self.wait_for(turn)
        try:
            yield turn
        finally:
            self.leave(turn)

    def wait_for(self, turn: Turn) -> None:
        """Return once *turn* is the first in the queue, at whose end it begins."""
        with self._changed:
            self._queue.append(turn)
            self._changed.wait_for(lambda: self._queue[0] is turn)
        turn.restore()

    def leave(self, turn: Turn) -> None:
        """Let the next in the queue compute."""
        turn.keep()
        with self._changed:
            self._queue.popleft()
            self._changed.notify_all()

    def is_awaited(self) -> bool:
        """Whether another job waits for its turn."""
        return len(self._queue) > 1


class Turn:
    """The right of a job to compute, and the state of the process as the job left it."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._generators: tuple[Any, ...] | None = None
        self._shared: tuple[dict[str, Any], ...] = tuple({} for _ in SHARED_BY_ACCELERATE)

    def hand_on(self) -> None:
        """Let every job that waits compute until it hands on, then go on."""
        if self._turns.is_awaited():
            self._turns.leave(self)
            self._turns.wait_for(self)

    def keep(self) -> None:
        """Remember the state of the random generators; that of accelerate is in the job's own dictionaries."""
        on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
        self._generators = (torch.get_rng_state(), on_gpus, random.getstate(), np.random.get_state())

    def restore(self) -> None:
        """Give the process the state that was kept."""
        for kind, state in zip(SHARED_BY_ACCELERATE, self._shared, strict=True):
            kind._shared_state = state
        if self._generators is None:
            return
        of_torch, on_gpus, of_python, of_numpy = self._generators
        torch.set_rng_state(of_torch)
        if on_gpus is not None:
            torch.cuda.set_rng_state_all(on_gpus)
        random.setstate(of_python)
        np.random.set_state(of_numpy)
