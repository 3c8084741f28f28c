"""The run of a batch at this gateway, from its claim to its end, or until the lease is lost or given back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from gateway.batches.asking import BatchTools, LineAsking
from gateway.batches.held_tasks import work_while_held
from gateway.batches.input_file import checked, input_path, key_fault, model_fault, unasked
from gateway.batches.line_results import LineResults
from gateway.batches.lines import BatchFile, FileRefused
from gateway.batches.registry_calls import FIRST_PAUSE_S, RegistryCalls
from registry.batches.batch import Batch, BatchFault, BatchHold, BatchResult
from registry.batches.batch_state import BatchState
from registry.errors import IllegalMove, LeaseLost, RegistryError, StaleState

log = logging.getLogger(__name__)

_RENEW_EVERY_S: Final = 2.0
_LOOK_EVERY_S: Final = 0.25


class BatchRun:
    """Moves one batch to its end."""

    def __init__(self, tools: BatchTools, hold: BatchHold) -> None:
        self._tools = tools
        self._gateway = tools.gateway
        self._store = tools.gateway.registry.batches
        self._hold = hold
        self._is_cancelled = False
        self._calls = RegistryCalls(hold.batch_id)
        self._results: LineResults | None = None
        self._asking: LineAsking | None = None

    def note(self, batch: Batch) -> None:
        """Notice how the batch stands in the registry."""
        self._is_cancelled = self._is_cancelled or batch.state is BatchState.CANCELLING

    async def run(self) -> None:
        """Return when the batch has ended, or is another gateway's; a cancelled caller leaves it as it is."""
        try:
            await work_while_held(self._keep_lease(), self._work())
        except LeaseLost as exc:
            log.warning("a batch is another gateway's now", extra={"batch": self._hold.batch_id, "why": str(exc)})

    async def _keep_lease(self) -> None:
        """Renew the lease until cancelled. Raises `LeaseLost`."""
        while True:
            try:
                self.note(await asyncio.to_thread(self._store.renew, self._hold, self._waits_for()))
            except LeaseLost:
                raise
            except RegistryError as exc:
                log.warning("lease of a batch not renewed, trying again", extra={"error": str(exc)})
            await asyncio.sleep(_RENEW_EVERY_S if not self._calls.problem else FIRST_PAUSE_S)

    def _waits_for(self) -> str:
        """Return why the batch does not go on; empty while it does."""
        written = "" if self._results is None else self._results.problem
        asked = "" if self._asking is None else self._asking.waits_for()
        return self._calls.problem or written or asked

    async def _work(self) -> None:
        """Take one step after the other. Raises `LeaseLost`."""
        batch = await self._calls.kept(self._store.get, self._hold.batch_id)
        while not batch.state.is_terminal:
            try:
                await self._step(batch)
            except (StaleState, IllegalMove):  # cancelled in this very moment
                log.info("a batch was moved by somebody else", extra={"batch": batch.id})
            batch = await self._calls.kept(self._store.get, batch.id)

    async def _step(self, batch: Batch) -> None:
        if batch.state is BatchState.VALIDATING:
            await self._validate(batch)
        elif batch.state is BatchState.IN_PROGRESS:
            await self._ask(batch)
        elif batch.state is BatchState.FINALIZING and batch.outcome is not None:
            await self._finish(batch, batch.outcome)
        else:
            await self._finish(batch, BatchState.CANCELLED)

    async def _validate(self, batch: Batch) -> None:
        if self._now() >= batch.expires_at:
            await self._calls.kept(self._store.finish, self._hold, BatchState.EXPIRED)
            return
        try:
            file = await self._calls.kept(checked, self._gateway.registry, batch, self._file(batch))
        except FileRefused as exc:
            await self._calls.kept(self._store.refuse, self._hold, exc.faults, exc.lines)
            return
        await self._refresh_routes()
        if (fault := model_fault(self._gateway, batch, file.model)) is not None:
            await self._calls.kept(self._store.refuse, self._hold, [fault], file.lines)
            return
        await self._calls.kept(self._store.begin, self._hold, file.lines, file.model)

    async def _ask(self, batch: Batch) -> None:
        """Ask the lines that have no result, until all have one or the batch has to end."""
        answered = await self._calls.kept(self._store.answered, batch.id)
        try:
            path = await self._calls.kept(input_path, self._gateway.registry, batch)
        except FileRefused as exc:
            await self._calls.kept(self._store.finalize, self._hold, BatchState.FAILED, exc.faults)
            return
        results = self._results = LineResults(self._record)
        writing = asyncio.create_task(results.run())
        self._asking = LineAsking(self._tools, batch, self._file(batch), results)
        asking = asyncio.create_task(self._asking.run(path, answered))
        ending = asyncio.create_task(self._end_of(batch))
        try:
            await asyncio.wait({writing, asking, ending}, return_when=asyncio.FIRST_COMPLETED)
            outcome, faults = BatchState.COMPLETED, list[BatchFault]()
            if ending.done():
                outcome, faults = ending.result()
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
            elif asking.done():
                asking.result()
            await self._all_kept(results, writing)
        finally:
            self._results = self._asking = None
            for task in (writing, asking, ending):
                task.cancel()
            await asyncio.gather(writing, asking, ending, return_exceptions=True)
        if outcome is not BatchState.CANCELLED:
            await self._calls.kept(self._store.finalize, self._hold, outcome, faults)

    async def _all_kept(self, results: LineResults, writing: asyncio.Task[None]) -> None:
        """Return when every result is durable. Raises `LeaseLost`."""
        keeping = asyncio.create_task(results.kept())
        try:
            await asyncio.wait({keeping, writing}, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                writing.result()
        finally:
            keeping.cancel()

    async def _end_of(self, batch: Batch) -> tuple[BatchState, list[BatchFault]]:
        """Return, once the batch has to end without an answer to every line, its outcome and why."""
        while True:
            if self._is_cancelled:
                return BatchState.CANCELLED, []
            if self._now() >= batch.expires_at:
                return BatchState.EXPIRED, []
            if (fault := key_fault(self._gateway, batch)) is not None:
                return BatchState.FAILED, [fault]
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _finish(self, batch: Batch, outcome: BatchState) -> None:
        """Write the files; while the disk has no room for them, the batch waits."""
        answered = await self._calls.kept(self._store.answered, batch.id)

        def finish() -> None:
            lines = unasked(self._gateway.registry, batch, self._file(batch), answered, outcome)
            self._store.finish(self._hold, outcome, lines)

        await self._calls.kept(finish)

    async def _refresh_routes(self) -> None:
        """Have a route table that is younger than the batch."""
        while True:
            try:
                await self._gateway.feed.refresh()
            except RegistryError as exc:
                log.warning("a batch waits for routes", extra={"batch": self._hold.batch_id, "error": str(exc)})
                await asyncio.sleep(FIRST_PAUSE_S)
            else:
                return

    def _record(self, results: Sequence[BatchResult]) -> None:
        self._store.record(self._hold, results)
        for result in results:
            self._gateway.metrics.batches.lines.labels("refused" if result.is_error else "answered").inc()

    def _file(self, batch: Batch) -> BatchFile:
        return BatchFile(batch.endpoint, self._gateway.settings.max_body_bytes)

    def _now(self) -> float:
        return self._gateway.registry.transactions.now()
