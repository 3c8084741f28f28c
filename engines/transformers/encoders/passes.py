"""The thread that runs forward passes over the texts of all requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from threading import Thread
from time import monotonic
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.transformers.encoders.metrics import EncoderMetrics
from engines.transformers.encoders.waiting import TokenRow, WaitingTexts
from engines.transformers.errors import EngineFailed

logger = logging.getLogger(__name__)

Vectors = NDArray[np.float32]


class Runner(Protocol):
    """The part that runs a pass: `engines.transformers.encoders.model.EncoderRunner`."""

    def run(self, rows: Sequence[TokenRow]) -> Tensor:
        """Return what the model makes of each row, [rows, width]."""
        ...


@dataclass(slots=True)
class _Answer:
    """The vectors of a request so far."""

    vectors: Vectors
    missing: int
    done: asyncio.Future[Vectors]


class Passes:
    """Owns the texts and the model while it runs; all methods but `start` are for the event loop."""

    def __init__(self, runner: Runner, metrics: EncoderMetrics, *, width: int, pass_tokens: int, threads: int) -> None:
        self._runner = runner
        self._metrics = metrics
        self._width = width
        self._threads = threads
        self._waiting = WaitingTexts(pass_tokens)
        self._answers: dict[int, _Answer] = {}
        self._commands: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._stopping = False
        self._on_failure: Callable[[], None] = lambda: None

    def start(self, loop: asyncio.AbstractEventLoop, on_failure: Callable[[], None]) -> Thread:
        """Begin to run; *on_failure* is called in *loop* when the model cannot be run any more."""
        self._on_failure = on_failure
        thread = Thread(target=self._run, args=(loop,), name="passes", daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """End the thread after the pass that runs."""
        self._commands.put(partial(setattr, self, "_stopping", True))

    async def encode(self, rows: Sequence[TokenRow]) -> Vectors:
        """Return what the model makes of each row, [rows, width]; a caller that is cancelled drops what waits.

        `EngineFailed`.
        """
        done: asyncio.Future[Vectors] = asyncio.get_running_loop().create_future()
        answer = _Answer(np.empty((len(rows), self._width), np.float32), len(rows), done)
        self._commands.put(partial(self._add, rows, answer))
        try:
            return await done
        finally:
            if not done.done() or done.cancelled():
                self._commands.put(partial(self._drop, answer))

    def _add(self, rows: Sequence[TokenRow], answer: _Answer) -> None:
        self._answers[self._waiting.add(rows)] = answer

    def _drop(self, answer: _Answer) -> None:
        for number in [number for number, each in self._answers.items() if each is answer]:
            self._waiting.drop(number)
            del self._answers[number]

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        torch.set_num_threads(self._threads)
        try:
            while not self._stopping:
                self._obey(wait=not self._waiting.requests)
                self._pass(loop)
        except Exception as exc:
            logger.exception("the model cannot be run")
            loop.call_soon_threadsafe(self._on_failure)
            self._fail_all(loop, EngineFailed(f"the engine failed: {type(exc).__name__}"))

    def _obey(self, *, wait: bool) -> None:
        if wait:
            self._metrics.set_load(0, 0)
            self._commands.get()()
        while not self._commands.empty():
            self._commands.get()()

    def _pass(self, loop: asyncio.AbstractEventLoop) -> None:
        taken = self._waiting.next_pass()
        if not taken:
            return
        inside = {text.request for text, _ in taken}
        self._metrics.set_load(len(inside), len(self._answers) - len(inside))
        began = monotonic()
        vectors = self._runner.run([row for _, row in taken]).numpy()
        self._metrics.note_pass(monotonic() - began, [text.length for text, _ in taken])
        for (text, _), vector in zip(taken, vectors, strict=True):
            answer = self._answers[text.request]
            answer.vectors[text.place] = vector
            answer.missing -= 1
            if not answer.missing:
                del self._answers[text.request]
                loop.call_soon_threadsafe(_deliver, answer.done, answer.vectors)

    def _fail_all(self, loop: asyncio.AbstractEventLoop, failure: EngineFailed) -> None:
        # Commands are obeyed until the process ends, so that requests which come now fail at once as well.
        while not self._stopping:
            for answer in self._answers.values():
                loop.call_soon_threadsafe(_fail, answer.done, failure)
            self._answers.clear()
            self._commands.get()()


def _deliver(done: asyncio.Future[Vectors], vectors: Vectors) -> None:
    if not done.done():  # its client may have left meanwhile
        done.set_result(vectors)


def _fail(done: asyncio.Future[Vectors], failure: EngineFailed) -> None:
    if not done.done():
        done.set_exception(failure)
