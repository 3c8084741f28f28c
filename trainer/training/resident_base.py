"""A base model that stays in memory, and the turns in which several jobs of one process train on it.

A job runs in a thread of its own, which computes only while it has the turn. It hands the turn on between two steps
and gets everything back as it left it that belongs to the process: the states of the random generators, and the state
that accelerate shares between all its objects. So each result is the one that the job has when it is alone.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Iterator, Sequence
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
LONGEST_EVERY: Final = 4
"""Each turn of this number is for the job that has waited longest."""


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
    """The jobs of a process, of which one computes at a time."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._waiting: list[Turn] = []
        self._holder: Turn | None = None
        self._given = 0

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """Yield the turn of a new job once it has come, and pass it on at the end."""
        turn = Turn(self)
        with self._changed:
            self._waiting.append(turn)
        self._wait_for(turn)
        try:
            yield turn
        finally:
            self._leave()

    def hand_on(self, turn: Turn) -> None:
        """Let others compute if it is their turn, and return when it is the turn of *turn* again, which has it now."""
        with self._changed:
            self._waiting.append(turn)
            if self._chosen() is turn:
                self._waiting.remove(turn)
                self._given += 1
                return
        turn.keep()
        self._leave()
        self._wait_for(turn)

    def _wait_for(self, turn: Turn) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._holder is None and self._chosen() is turn)
            self._waiting.remove(turn)
            self._holder = turn
            self._given += 1
        turn.restore()

    def _leave(self) -> None:
        with self._changed:
            self._holder = None
            self._changed.notify_all()

    def _chosen(self) -> Turn:
        place = next_place([turn.left_s for turn in self._waiting], self._given)
        return self._waiting[place]


def next_place(left_s: Sequence[float | None], given: int) -> int:
    """Return which of the waiting jobs gets the next turn, after *given* turns. Pure.

    *left_s* has the seconds that each still needs, those that wait longest first; None for a job that has just come,
    which goes first. Then the job that ends soonest goes first, so that the mean time to the end is short, but every
    `LONGEST_EVERY`-th turn is for the job that has waited longest, so that all come on.
    """
    known = [left for left in left_s if left is not None]
    if len(known) < len(left_s):
        return left_s.index(None)
    return 0 if given % LONGEST_EVERY == 0 else left_s.index(min(known))


class Turn:
    """The right of a job to compute, and the state of the process as the job left it."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._generators: tuple[Any, ...] | None = None
        self._shared: tuple[dict[str, Any], ...] = tuple({} for _ in SHARED_BY_ACCELERATE)
        self._since = time.monotonic()
        self._step_s = 0.0
        self.left_s: float | None = None
        """Seconds that the job still needs if it computes alone; None before its first step."""

    def hand_on(self) -> None:
        """End a step: let the others compute whose turn it is, then go on."""
        self._step_s = time.monotonic() - self._since
        self._turns.hand_on(self)
        self._since = time.monotonic()

    def expect(self, steps: int) -> None:
        """Note that the job has so many steps left, each like its last one."""
        self.left_s = steps * self._step_s

    def keep(self) -> None:
        """Remember the state of the random generators; that of accelerate is in the job's own dictionaries."""
        on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
        self._generators = (torch.get_rng_state(), on_gpus, random.getstate(), np.random.get_state())

    def restore(self) -> None:
        """Give the process the state that was kept."""
        self._since = time.monotonic()
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
