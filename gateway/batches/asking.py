"""Asking the lines of a batch: each begins where a place is free, and is sent again where that may help."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from gateway.batches.free_places import FreePlaces, Place
from gateway.batches.front_door import FrontDoor
from gateway.batches.line_results import LineResults
from gateway.batches.lines import BatchFile, BatchLine
from gateway.batches.records import result_of
from gateway.batches.retrying import again
from gateway.edge.parts import Gateway
from gateway.routing.paths import HOT_PATHS
from registry.batches.batch import Batch

_READ_AT_ONCE: Final = 32
"""Lines that are read from the file at a time, in a thread."""
_MOST_UNDER_WAY: Final = 256
"""Lines of a batch that may be under way, those that wait to be sent again among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTools:
    """The parts that the batches of a gateway share."""

    gateway: Gateway
    door: FrontDoor
    places: FreePlaces


class LineAsking:
    """Asks the lines of one batch; a caller that is cancelled cuts off what is under way."""

    def __init__(self, tools: BatchTools, batch: Batch, file: BatchFile, results: LineResults) -> None:
        self._tools = tools
        self._batch = batch
        self._file = file
        self._results = results
        self._kind = HOT_PATHS[batch.endpoint.encode()]
        self._not_before = 0.0
        """Monotonic time until which no line of the batch is sent, as a limit is used up."""
        caller = tools.gateway.keyring.caller_with(batch.key_id)
        most = None if caller is None else caller.limits.concurrent_requests
        self._own = asyncio.Semaphore(_MOST_UNDER_WAY if most is None else max(1, most // 2))
        """Lines that may be under way: half of what the key may have at a time, which leaves it the rest."""

    async def run(self, path: Path, answered: set[int]) -> None:
        """Return when every line of the file at *path* that is not among *answered* has a result."""
        async with asyncio.TaskGroup() as under_way:
            async for line in self._lines(path, answered):
                await self._results.has_room()
                await self._own.acquire()
                place = await self._begin(line)
                task = under_way.create_task(self._ask(line, place))
                task.add_done_callback(partial(self._ended, place))

    def waits_for(self) -> str:
        """Return why no line begins; empty while lines do, or where clients need all places."""
        if self._batch.model is not None and not self._tools.places.is_served(self._kind, self._batch.model):
            return f"no replica of {self._batch.model} is ready"
        if time.monotonic() < self._not_before:
            return "a limit of its key is nearly used up, or the engines have more to do than they can"
        return ""

    async def _lines(self, path: Path, answered: set[int]) -> AsyncIterator[BatchLine]:
        with await asyncio.to_thread(path.open, "rb") as file:
            lines = (line for line in self._file.lines(file) if line.number not in answered)
            while some := await asyncio.to_thread(_next, lines):
                for line in some:
                    yield line

    async def _begin(self, line: BatchLine, not_before: float = 0.0) -> Place:
        """Return a place for the line once there is one and the batch may go on."""
        while True:
            while (rest_s := max(not_before, self._not_before) - time.monotonic()) > 0:  # noqa: ASYNC110  time passes
                await asyncio.sleep(rest_s)
            place = await self._tools.places.enter(self._kind, line.model)
            if time.monotonic() >= self._not_before:
                return place
            place.leave()  # another line used a limit up meanwhile

    def _ended(self, place: Place, _: asyncio.Task[None]) -> None:
        place.leave()  # of a task that was cancelled before it began
        self._own.release()

    async def _ask(self, line: BatchLine, place: Place) -> None:
        """Ask until the answer is a result; *place* is that of the first attempt."""
        failures = 0
        while True:
            try:
                answer = await self._tools.door.ask(self._kind.path, line.body, self._headers())
            finally:
                place.leave()
            self._not_before = max(self._not_before, time.monotonic() + answer.leaves_s)
            repeat = again(answer, failures)
            if repeat is None:
                await self._results.add(result_of(line, answer))
                return
            self._tools.gateway.metrics.batches.lines.labels("again").inc()
            failures += repeat.is_failure
            resumes = time.monotonic() + repeat.after_s
            if repeat.holds_all:
                self._not_before = max(self._not_before, resumes)
            place = await self._begin(line, resumes)

    def _headers(self) -> list[tuple[str, bytes]]:
        credential = self._tools.gateway.keyring.lend(self._batch.key_id)
        headers = [("x-lorry-priority", b"low")]
        return [*headers, ("authorization", credential)] if credential else headers


def _next(lines: Iterator[BatchLine]) -> list[BatchLine]:
    return list(itertools.islice(lines, _READ_AT_ONCE))
