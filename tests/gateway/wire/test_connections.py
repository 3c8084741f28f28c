"""An engine's answer is the same however its bytes are cut, and malformed bytes are never taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.connections import EngineConnection, EnginePool
from gateway.wire.engine_answer import Fault
from gateway.wire.engine_connections import EngineConnections
from tests.gateway.edge.wire import RecordingSink, RecordingTransport, chunked, pieces

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
PLAIN = HEAD + b"content-length: 10\r\n\r\n0123456789"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunked(b"01234", b"56789")
UNTIL_CLOSED = HEAD + b"connection: close\r\n\r\n0123456789"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"

cuts = st.lists(st.integers(0, 500), max_size=12)


def opened() -> tuple[EnginePool, EngineConnection, RecordingTransport]:
    pool = EnginePool("http://127.0.0.1:1", 1.0)
    connection, transport = EngineConnection(pool), RecordingTransport()
    connection.connection_made(transport)
    return pool, connection, transport


@given(cuts, st.sampled_from([PLAIN, CHUNKED]), st.booleans())
def test_an_answer_is_the_same_however_it_is_cut_and_its_connection_is_used_again(
    cut_at: list[int], answer: bytes, has_interim: bool
) -> None:
    pool, connection, transport = opened()
    for _ in range(2):
        sink = RecordingSink()
        connection.send(sink, b"ask")
        for part in pieces(INTERIM * has_interim + answer, cut_at):
            connection.data_received(part)
        assert sink.head is not None
        assert (sink.head.status, sink.head.content_type) == (200, b"text/event-stream")
        assert (sink.body, sink.is_whole, sink.fault) == (b"0123456789", True, None)
        assert pool.pop_free() is connection
    assert transport.written == b"askask"


@given(cuts)
def test_a_body_without_a_length_ends_with_its_connection(cut_at: list[int]) -> None:
    pool, connection, _ = opened()
    sink = RecordingSink()
    connection.send(sink, b"ask")
    for part in pieces(UNTIL_CLOSED, cut_at):
        connection.data_received(part)
    assert not sink.is_whole
    connection.connection_lost(None)
    assert (sink.body, sink.is_whole, sink.fault) == (b"0123456789", True, None)
    assert pool.pop_free() is None


@given(st.data(), st.sampled_from([PLAIN, CHUNKED]))
def test_an_answer_that_is_cut_short_anywhere_is_lost(data: st.DataObject, answer: bytes) -> None:
    _, connection, _ = opened()
    sink = RecordingSink()
    connection.send(sink, b"ask")
    connection.data_received(answer[: data.draw(st.integers(1, len(answer) - 1))])
    connection.connection_lost(None)
    assert (sink.is_whole, sink.fault) == (False, Fault.CUT)


@pytest.mark.parametrize("answer", [PLAIN, CHUNKED])
def test_only_a_connection_that_was_kept_and_says_nothing_is_stale(answer: bytes) -> None:
    pool, connection, _ = opened()
    first, second = RecordingSink(), RecordingSink()
    connection.send(first, b"ask")
    connection.data_received(answer)
    kept = pool.pop_free()
    assert kept is connection
    kept.send(second, b"ask")
    kept.connection_lost(ConnectionResetError())
    assert (first.fault, second.fault) == (None, Fault.STALE)
    _, fresh, _ = opened()
    fresh.send(second := RecordingSink(), b"ask")
    fresh.connection_lost(ConnectionResetError())
    assert second.fault is Fault.CUT


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000,
    ],
)
def test_what_is_no_answer_is_a_fault(answer: bytes) -> None:
    pool, connection, transport = opened()
    sink = RecordingSink()
    connection.send(sink, b"ask")
    connection.data_received(answer)
    assert (sink.fault, sink.is_whole) == (Fault.MALFORMED, False)
    assert transport.is_closed
    assert pool.pop_free() is None


def test_a_second_answer_to_one_request_is_nobodys() -> None:
    pool, connection, transport = opened()
    sink = RecordingSink()
    connection.send(sink, b"ask")
    connection.data_received(PLAIN + b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nxx")
    assert (sink.body, sink.is_whole) == (b"0123456789", True)
    assert transport.is_closed
    assert pool.pop_free() is None


def test_what_comes_unasked_ends_a_connection() -> None:
    pool, connection, transport = opened()
    connection.send(RecordingSink(), b"ask")
    connection.data_received(PLAIN)
    connection.data_received(b"HTTP/1.1 408 Too slow\r\n\r\n")
    assert transport.is_closed
    assert pool.pop_free() is None


def test_a_connection_goes_back_reading() -> None:
    pool, connection, transport = opened()
    connection.send(RecordingSink(), b"ask")
    connection.data_received(PLAIN[:-1])
    connection.pause()
    assert transport.is_paused
    connection.data_received(PLAIN[-1:])
    assert not transport.is_paused
    assert pool.pop_free() is connection


def test_connections_that_nobody_used_for_long_are_closed() -> None:
    pool, connection, transport = opened()
    connection.send(RecordingSink(), b"ask")
    connection.data_received(PLAIN)
    pool.close_idle(connection.idle_since)
    assert not transport.is_closed
    pool.close_idle(connection.idle_since + 1)
    assert transport.is_closed


def test_a_client_that_is_slow_at_the_end_of_its_answer_does_not_stop_the_next_request() -> None:
    pool, connection, transport = opened()

    class Slow(RecordingSink):
        def on_data(self, data: bytes, is_whole: bool) -> None:
            super().on_data(data, is_whole)
            connection.pause()

    connection.send(Slow(), b"ask")
    connection.data_received(PLAIN)
    assert pool.pop_free() is connection
    assert not transport.is_paused


def test_a_connection_to_an_engine_that_has_gone_ends_with_its_answer() -> None:
    connections = EngineConnections(1.0)
    pool = connections["http://127.0.0.1:1"]
    busy, transport = EngineConnection(pool), RecordingTransport()
    busy.connection_made(transport)
    sink = RecordingSink()
    busy.send(sink, b"ask")
    connections.tidy((), 0.0)
    assert not transport.is_closing()
    busy.data_received(PLAIN)
    assert (sink.body, sink.is_whole, sink.fault) == (b"0123456789", True, None)
    assert transport.is_closing()
    assert connections["http://127.0.0.1:1"] is not pool
