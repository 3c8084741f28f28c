"""Measure what the gateway's own code costs a request and a chunk: bytes in at one end, out at the other, no sockets.

    python bench/request_cost.py [--rounds 7] [--profile]

One connection and two engines in memory, a key, an answer of 16 tokens or a stream of 64 chunks, and a sweep after
every 50 requests, as there is at a thousand requests a second. Processor time, the least of the rounds; `--profile`
lists the functions that take most of it.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import uvloop
from uvicorn.server import ServerState

sys.path.insert(0, str(Path(__file__).parents[1]))

from gateway.app import build_gateway
from gateway.edge.parts import Gateway
from gateway.edge.protocol import EdgeProtocol
from gateway.settings import GatewaySettings
from gateway.up.http_server import server_config
from gateway.wire.connections import EngineConnection
from registry.database import Registry, open_registry
from registry.keys import KeyDraft, Scope
from registry.schema import migrate
from registry.settings import RegistrySettings
from registry.states import ReplicaState
from registry.types import Base, Replica
from tests.gateway.edge.wire import RecordingTransport

MODEL: Final = "mock"
ENGINES: Final = 2
CHUNKS: Final = 64
TIMES: Final = 2_000
"""Requests in a round; a tenth as many streams."""
SWEPT_EVERY: Final = 50
_ASKED: Final = b'{"model":"mock","messages":[{"role":"user","content":"%b"}],"max_tokens":16,"stream":%b}'
_USAGE: Final = b'"usage":{"prompt_tokens":5,"completion_tokens":16,"total_tokens":21}'
_ANSWER: Final = b'{"id":"c-1","choices":[{"index":0,"message":{"content":"%b"},"finish_reason":"stop"}],%b}' % (
    b"tok " * 16,
    _USAGE,
)
_EVENT: Final = b'data: {"id":"c-1","choices":[{"index":0,"delta":{"content":"tok "},"finish_reason":null}]}\n\n'
_STREAM_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    uvloop.run(_measure(args.rounds, profile=args.profile))


async def _measure(rounds: int, *, profile: bool) -> None:
    async with opened_wire() as wire:
        request_us = _least_us(wire.request, wire.sweep, TIMES, rounds)
        stream_us = _least_us(wire.stream, wire.sweep, TIMES // 10, rounds)
        _print(f"a request            {request_us:8.1f} us")
        _print(f"a chunk of {CHUNKS}        {(stream_us - request_us) / CHUNKS:8.2f} us")
        if profile:
            with cProfile.Profile(time.process_time) as seen:
                _repeat(wire.request, wire.sweep, TIMES)
            pstats.Stats(seen).sort_stats("tottime").print_stats(30)


@asynccontextmanager
async def opened_wire() -> AsyncIterator[Wire]:
    """Provide a wire through a gateway whose registry has a base model, its replicas and a key."""
    with tempfile.TemporaryDirectory() as scratch:
        settings = RegistrySettings(url=f"sqlite:///{scratch}/registry.db", artifacts=Path(scratch) / "artifacts")
        migrate(settings.url)
        registry = open_registry(settings)
        key = _fill(registry)
        gateway = build_gateway(GatewaySettings(), registry)
        await gateway.keyring.refresh()
        await gateway.feed.refresh()
        gateway.edge.tick(time.monotonic())
        yield Wire(gateway, key)
        registry.close()


class _Drain(RecordingTransport):
    """Throws away what is written."""

    def write(self, data: bytes | bytearray | memoryview) -> None: ...


class Wire:
    """A client's connection to the gateway and the gateway's to its engines."""

    def __init__(self, gateway: Gateway, key: str) -> None:
        config = server_config(gateway)
        config.load()
        self._edge = gateway.edge
        self._client = EdgeProtocol(gateway, config, ServerState(), {})
        self._client.connection_made(_Drain())
        self._engines: list[EngineConnection] = []
        for number in range(ENGINES):
            pool = gateway.connections[_url(number)]
            connection = EngineConnection(pool)
            connection.connection_made(_Drain())
            pool.give_back(connection)
            self._engines.append(connection)
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        head += b"authorization: Bearer %b\r\n" % key.encode()
        bodies = [_ASKED % (b"hello world " * 25, streamed) for streamed in (b"false", b"true")]
        self._asks = [b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body) for body in bodies]
        self._answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
            len(_ANSWER),
            _ANSWER,
        )
        self._chunk = _framed(_EVENT)
        self._last = _framed(b'data: {"choices":[],%b}\n\ndata: [DONE]\n\n' % _USAGE) + b"0\r\n\r\n"

    def request(self) -> None:
        """Send a plain request and answer it."""
        self._client.data_received(self._asks[0])
        self._asked().data_received(self._answer)

    def stream(self, chunks: int = CHUNKS) -> None:
        """Send a streamed request and answer it; every chunk arrives by itself."""
        self._client.data_received(self._asks[1])
        engine = self._asked()
        engine.data_received(_STREAM_HEAD)
        for _ in range(chunks):
            engine.data_received(self._chunk)
        engine.data_received(self._last)

    def sweep(self) -> None:
        """Let the gateway look at what is due, as it does every 50 ms."""
        self._edge.tick(time.monotonic())

    def _asked(self) -> EngineConnection:
        """Return the engine that has the request."""
        (busy,) = (each for each in self._engines if each.is_busy)
        return busy


def _fill(registry: Registry) -> str:
    """Enter a base model, two replicas of it and a key; return the secret of the key."""
    registry.bases.enter(Base(name=MODEL, path="/x", digest="d", licence="x", created_at=1.0))
    for number in range(ENGINES):
        registry.replicas.report(
            Replica(
                id=f"r{number}",
                base=MODEL,
                engine="vllm",
                url=_url(number),
                state=ReplicaState.READY,
                capacity=8,
                slots=(),
                message="",
                started_at=0.0,
                heartbeat_at=0.0,
                paths=("/v1/chat/completions",),
            )
        )
    return registry.keys.create(KeyDraft(name="load", scopes=frozenset(Scope)), actor="load").secret


def _url(number: int) -> str:
    return f"http://127.0.0.1:{number + 1}"


def _framed(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


def _least_us(call: Callable[[], None], sweep: Callable[[], None], times: int, rounds: int) -> float:
    call()
    spent = []
    for _ in range(rounds):
        began = time.process_time()
        _repeat(call, sweep, times)
        spent.append((time.process_time() - began) / times)
    return 1e6 * min(spent)


def _repeat(call: Callable[[], None], sweep: Callable[[], None], times: int) -> None:
    for number in range(1, times + 1):
        call()
        if number % SWEPT_EVERY == 0:
            sweep()


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
