"""The thread that steps the model: takes commands between steps, delivers what is new to the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from threading import Thread
from time import monotonic
from typing import Final, Protocol

import torch
from torch import Tensor

from engines.transformers.cache import StepAbandoned
from engines.transformers.constraints.constraint import Constraint
from engines.transformers.errors import EngineFailed
from engines.transformers.metrics import EngineMetrics
from engines.transformers.sampling import ChosenToken, choose
from engines.transformers.scheduler import Row, Scheduler, StepPlan
from engines.transformers.sequence import Delta, Sequence

logger = logging.getLogger(__name__)

ROWS_WORTH_THREADS: Final = 8
"""Least tokens of a step that several threads run: with fewer, waiting for each other costs more than they gain."""

Delivery = tuple[Sequence, Delta | Exception]


class Runner(Protocol):
    """The part that runs a step: `engines.transformers.model.ModelRunner`."""

    def step(self, plan: StepPlan, gives_way: Callable[[], bool]) -> tuple[list[Row], Tensor]:
        """Return the rows whose next token follows, and their logits, [rows, vocabulary]; `StepAbandoned`."""
        ...


class Stepper:
    """Owns the scheduler and the model while it runs; all methods but `start` are for the event loop."""

    def __init__(self, runner: Runner, scheduler: Scheduler, metrics: EngineMetrics, threads: int) -> None:
        self._runner = runner
        self._scheduler = scheduler
        self._metrics = metrics
        self._threads = threads
        self._masks = ThreadPoolExecutor(max_workers=1, thread_name_prefix="masks")
        self._commands: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._stopping = False
        self._on_failure: Callable[[], None] = lambda: None

    def start(self, loop: asyncio.AbstractEventLoop, on_failure: Callable[[], None]) -> Thread:
        """Begin to step; *on_failure* is called in *loop* when the model cannot be run any more."""
        self._on_failure = on_failure
        thread = Thread(target=self._run, args=(loop,), name="stepper", daemon=True)
        thread.start()
        return thread

    def submit(self, sequences: Iterable[Sequence]) -> None:
        """Let *sequences* take part from the next step with a free slot."""
        for sequence in sequences:
            self._commands.put(partial(self._scheduler.add, sequence))

    def drop(self, sequences: Iterable[Sequence]) -> None:
        """Drop *sequences*, which nobody waits for any more."""
        for sequence in sequences:
            self._commands.put(partial(self._scheduler.drop, sequence))

    def stop(self) -> None:
        """End the thread after the step that runs."""
        # A command as well, so that only the stepping thread touches the scheduler and this flag.
        self._commands.put(partial(setattr, self, "_stopping", True))

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while not self._stopping:
                self._obey(wait=not self._scheduler.running and not self._scheduler.waiting)
                plan = self._scheduler.plan()
                self._metrics.set_load(len(self._scheduler.running), len(self._scheduler.waiting))
                if plan is not None:
                    # A single call for all sequences of the step: each call wakes the event loop.
                    loop.call_soon_threadsafe(deliver_all, self._step(plan))
        except Exception as exc:
            logger.exception("the model cannot be run")
            loop.call_soon_threadsafe(self._on_failure)
            self._fail_all(loop, EngineFailed(f"the engine failed: {type(exc).__name__}"))

    def _fail_all(self, loop: asyncio.AbstractEventLoop, failure: EngineFailed) -> None:
        # Commands are obeyed until the process ends, so that requests which come now fail at once as well.
        while not self._stopping:
            for sequence in (*self._scheduler.running.values(), *self._scheduler.waiting):
                self._scheduler.drop(sequence)
                loop.call_soon_threadsafe(sequence.deliver, failure)
            self._commands.get()()

    def _obey(self, *, wait: bool) -> None:
        if wait:  # nothing runs: block until a command comes instead of turning in a circle
            # The gauges would otherwise keep the load of the last step while the thread blocks.
            self._metrics.set_load(0, 0)
            self._commands.get()()
        while not self._commands.empty():
            self._commands.get()()

    def _step(self, plan: StepPlan) -> list[Delivery]:
        started = monotonic()
        torch.set_num_threads(self._threads if plan.size >= ROWS_WORTH_THREADS else 1)
        gives_way = self._has_commands if plan.is_for_copies else _never
        for constraint in constraints_of(plan):
            constraint.begin_mask(self._masks)
        try:
            rows, logits = self._runner.step(plan, gives_way)
        except StepAbandoned:
            # Prefixes were copied before the forward pass and stay valid; only the rows are computed again.
            plan.undo()
            return []
        if not rows:
            return []
        choices = choose(logits, [row.sequence.chooser for row in rows])
        ended = monotonic()
        self._metrics.note_step(ended - started, sum(row.sequence.limit > 0 for row in rows))
        news = [(row, _news_of(row.sequence, choice)) for row, choice in zip(rows, choices, strict=True)]
        return [self._delivery(row, each, ended) for row, each in news if each is not None]

    def _has_commands(self) -> bool:
        """Whether a command waits: a client came, or nobody wants the copy any more."""
        return not self._commands.empty()

    def _delivery(self, row: Row, news: Delta | Exception, now: float) -> Delivery:
        if isinstance(news, Exception) or news.finish is not None:
            self._scheduler.release(row.sequence)
        if isinstance(news, Delta):
            self._metrics.note_delta(row.sequence, news, now)
        return row.sequence, news


def constraints_of(plan: StepPlan) -> Iterator[Constraint]:
    """Yield the constraints of the rows whose next token follows."""
    for row in (*plan.decodes, *plan.prompts):
        if row.is_last and row.sequence.chooser.constraint is not None:
            yield row.sequence.chooser.constraint


def _news_of(sequence: Sequence, choice: ChosenToken) -> Delta | Exception | None:
    """Return what the next token brings: text, the error of a constraint, or nothing yet."""
    constraint = sequence.chooser.constraint
    error = None if constraint is None else constraint.error
    return sequence.accept(choice) if error is None else error


def _never() -> bool:
    return False


def deliver_all(deliveries: list[Delivery]) -> None:
    """Deliver everything to those who wait for it."""
    for sequence, news in deliveries:
        sequence.deliver(news)
