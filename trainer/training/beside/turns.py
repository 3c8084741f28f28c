"""The turns in which several jobs of one process train on one base model.

A job runs in a thread of its own and has the turn while it does what touches the state of the process: the random
generators, above all. It hands the turn on between two steps and gets the generators back as it left them. While it
computes what draws no random number, it steps aside: another job may have the turn meanwhile, as many at once as
processors are for. So each result is the one that the job has when it is alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Condition
from typing import Final

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState, ThreadLocalSharedDict

from trainer.training.beside.generators import Generators, generators

SHARED_BY_ACCELERATE: Final = (PartialState, AcceleratorState, GradientState)
LONGEST_EVERY: Final = 8
"""Each turn of this number is for the job that has waited longest."""


def keep_accelerate_by_thread() -> None:
    """Have accelerate share its state between the objects of a thread alone, which is a job."""
    for kind in SHARED_BY_ACCELERATE:
        kind._shared_state = ThreadLocalSharedDict()


class Turns:
    """The jobs of a process, of which one has the turn, and others compute aside."""

    def __init__(self, at_once: int = 1) -> None:
        """*at_once* jobs compute at a time, the one that has the turn included; on a GPU one."""
        self._at_once = 1 if torch.cuda.is_available() else at_once
        self._changed = Condition()
        self._waiting: list[Turn] = []
        self._coming_back: list[Turn] = []
        self._holder: Turn | None = None
        self._aside = 0
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
            if not self._coming_back and self._chosen() is turn:
                self._waiting.remove(turn)
                self._given += 1
                return
        turn.keep()
        self._leave()
        self._wait_for(turn)

    def step_aside(self, turn: Turn) -> None:
        """Let others have the turn, though *turn*, which has it now, goes on."""
        turn.keep()
        with self._changed:
            self._aside += 1
        self._leave()

    def come_back(self, turn: Turn) -> None:
        """Return when *turn*, which stepped aside, has the turn again: before those that wait to begin a step."""
        with self._changed:
            self._coming_back.append(turn)
            self._changed.wait_for(lambda: self._holder is None and self._coming_back[0] is turn)
            self._coming_back.remove(turn)
            self._aside -= 1
            self._holder = turn
        turn.restore()

    def _wait_for(self, turn: Turn) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_free() and self._chosen() is turn)
            self._waiting.remove(turn)
            self._holder = turn
            self._given += 1
        turn.begin()

    def _is_free(self) -> bool:
        """Whether a job may begin a step; those that come back are among those aside."""
        return self._holder is None and not self._coming_back and self._aside < self._at_once

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
    """The right of a job to compute, and the random generators as the job left them."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._generators: Generators | None = None
        self._since = time.monotonic()
        self._step_s = 0.0
        self.left_s: float | None = None
        """Seconds that the job still needs if it computes alone; None before its first step."""

    def hand_on(self) -> None:
        """End a step: let the others compute whose turn it is, then go on."""
        self._step_s = time.monotonic() - self._since
        self._turns.hand_on(self)
        self._since = time.monotonic()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Let another job have the turn while the block computes, which draws no random number."""
        self._turns.step_aside(self)
        try:
            yield
        finally:
            self._turns.come_back(self)

    def expect(self, steps: int) -> None:
        """Note that the job has so many steps left, each like its last one, which for the first is under way."""
        self.left_s = steps * (self._step_s or time.monotonic() - self._since)

    def begin(self) -> None:
        """Begin a step."""
        self._since = time.monotonic()
        self.restore()

    def keep(self) -> None:
        """Remember the states of the random generators."""
        self._generators = generators()

    def restore(self) -> None:
        """Give the random generators the states that were kept."""
        if self._generators is not None:
            self._generators.restore()
