"""A request of the gateway's own can be cut off at any moment, and ends no other request's connection."""

from __future__ import annotations

import asyncio

import pytest

from gateway.wire.call import EngineCall
from gateway.wire.connections import EngineConnection, EnginePool
from gateway.wire.engine_answer import AnswerHead, Fault
from tests.gateway.edge.wire import RecordingSink, RecordingTransport

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"


def ignore(head: AnswerHead, data: bytes) -> None:
    """Nobody listens."""


def opened() -> tuple[EnginePool, EngineConnection, RecordingTransport]:
    """A pool with one connection that is free."""
    pool = EnginePool("http://127.0.0.1:1", 1.0)
    connection, transport = EngineConnection(pool), RecordingTransport()
    connection.connection_made(transport)
    pool.give_back(connection)
    return pool, connection, transport


@pytest.mark.parametrize("heard", [b"", ANSWER, ANSWER + b"we"])
def test_a_call_that_is_stopped_has_closed_its_connection_already(heard: bytes) -> None:
    async def story() -> None:
        pool, connection, transport = opened()
        call = EngineCall(ignore)
        running = asyncio.create_task(call.run(pool, b"ask", 5.0))
        await asyncio.sleep(0)
        assert transport.written == b"ask"
        if heard:
            connection.data_received(heard)
        call.stop()
        assert transport.is_closed
        assert await running is Fault.STOPPED

    asyncio.run(story())


def test_a_call_that_is_stopped_before_it_was_sent_never_is() -> None:
    async def story() -> None:
        pool, _, transport = opened()
        call = EngineCall(ignore)
        call.stop()
        assert await call.run(pool, b"ask", 5.0) is Fault.STOPPED
        assert transport.written == b""
        assert transport.is_closed

    asyncio.run(story())


def test_stopping_too_late_leaves_the_connection_to_whom_it_belongs_now() -> None:
    async def story() -> None:
        pool, connection, transport = opened()
        call = EngineCall(ignore)
        running = asyncio.create_task(call.run(pool, b"ask", 5.0))
        await asyncio.sleep(0)
        connection.data_received(ANSWER + b"well")
        next_one = RecordingSink()
        taken = pool.pop_free()
        assert taken is connection
        taken.send(next_one, b"next")
        call.stop()
        assert not transport.is_closed
        assert await running is None
        connection.data_received(ANSWER + b"done")
        assert (next_one.body, next_one.is_whole) == (b"done", True)

    asyncio.run(story())
