"""A request of the gateway's own to an engine, over the same connections; its caller awaits it, nothing is relayed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.wire.connections import EngineConnection, EnginePool
from gateway.wire.engine_answer import AnswerHead, AnswerSink, Fault


class EngineCall:
    """A request, whose answer is passed on as it comes."""

    def __init__(self, on_data: Callable[[AnswerHead, bytes], None]) -> None:
        """*on_data* is called with the head and the next bytes of the body."""
        self._on_data = on_data
        self._head: AnswerHead | None = None
        self._connection: EngineConnection | None = None
        self._is_stopped = False
        self._ended: asyncio.Future[Fault | None]

    async def run(self, pool: EnginePool, request: bytes, timeout_s: float) -> Fault | None:
        """Return when the answer is whole, or with what went wrong; an engine that takes longer is `SILENT`."""
        try:
            async with asyncio.timeout(timeout_s):
                fault = await self._attempt(pool, request, is_fresh=False)
                # A kept connection may have been closed by the engine meanwhile; a new one cannot be stale.
                if fault is Fault.STALE:
                    fault = await self._attempt(pool, request, is_fresh=True)
                return fault
        except TimeoutError:
            return Fault.SILENT

    def stop(self) -> None:
        """Cut the request off: the engine's connection is closed before this returns, and `run` returns `STOPPED`."""
        self._is_stopped = True
        if self._connection is not None and not self._ended.done():  # a whole answer has given its connection back
            self._connection.close()
            self._ended.set_result(Fault.STOPPED)

    async def _attempt(self, pool: EnginePool, request: bytes, *, is_fresh: bool) -> Fault | None:
        connection = None if is_fresh else pool.pop_free()
        connection = connection or await pool.connect()
        if connection is None:
            return Fault.UNREACHABLE
        # A `stop` that came while the connection was being opened had none to close.
        if self._is_stopped:
            connection.close()
            return Fault.STOPPED
        self._ended = asyncio.get_running_loop().create_future()
        self._connection = connection
        connection.send(self, request)
        try:
            return await self._ended
        finally:
            # A call that timed out cuts the engine off: the pool must not get a connection with half an answer.
            if not self._ended.done() or self._ended.cancelled():
                connection.close()

    def on_head(self, head: AnswerHead) -> AnswerSink:
        """Keep the head for the body, which comes here too."""
        self._head = head
        return self

    def on_data(self, data: bytes, is_whole: bool) -> None:
        """Pass the bytes on, and end the call with the last of them."""
        if self._head is not None:
            self._on_data(self._head, data)
        if is_whole and not self._ended.done():
            self._ended.set_result(None)

    def on_chunk(self, chunk: bytes) -> bool:
        """Take only what `on_data` gets."""
        return False

    def on_lost(self, fault: Fault) -> None:
        """End the call with the fault."""
        if not self._ended.done():
            self._ended.set_result(fault)
