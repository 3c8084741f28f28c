"""Measure what open connections cost a gateway process outside of Ray: idle ones, and ones with a stream under way.

    python bench/one_gateway/connections.py --cache .bench [--idle 5000] [--streams 2000] [--seconds 10]

Idle connections are kept after one request each. Streams get a chunk a second from a mock engine. Memory is resident
memory of the process, processor time that of its threads.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.comparison.native import MODEL, mock_engine
from bench.one_gateway.process import GatewayProcess, gateway_process

ENGINES: Final = 10
"""A gateway has 256 requests at a time at an engine that reports no number of its own."""
AT_A_TIME: Final = 64
TOKENS: Final = 600
PACE_US: Final = 1_000_000
SPARE_FILES: Final = 256

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="where the native programs are")
    parser.add_argument("--idle", type=int, default=5000)
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=10.0)
    args = parser.parse_args()
    wanted = max(args.idle, args.streams * 2) + SPARE_FILES
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < wanted:
        parser.error(f"{wanted} open files are needed; the limit of this shell is {most} (`ulimit -n`)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as folder, mock_engine(args.cache, ENGINES) as mock:
        for is_streamed, count in ((False, args.idle), (True, args.streams)):
            home = Path(folder) / str(count)  # a gateway of its own, whose memory nothing else has widened
            with gateway_process(home, f"sqlite:///{home / 'registry.db'}", mock.ports) as gateway:
                asyncio.run(_measure(gateway, count, args.seconds, is_streamed=is_streamed))


async def _measure(gateway: GatewayProcess, count: int, seconds: float, *, is_streamed: bool) -> None:
    await _opened(gateway, AT_A_TIME, is_streamed=is_streamed)
    await _show(f"{AT_A_TIME} connections", gateway, 0, seconds)
    before = gateway.memory_mb()
    opened = await _opened(gateway, count, is_streamed=is_streamed)
    await _show(f"{count} more {'streams' if is_streamed else 'idle ones'}", gateway, count, seconds, before)
    for _, writer in opened:
        writer.close()
    await asyncio.sleep(2.0)
    await _show("after their end", gateway, 0, seconds)


async def _opened(gateway: GatewayProcess, count: int, *, is_streamed: bool) -> Sequence[Connection]:
    gate = asyncio.Semaphore(AT_A_TIME)
    request = _request(gateway.key, is_streamed=is_streamed)

    async def one() -> Connection:
        async with gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"refused: {head.decode()} {(await reader.read(500)).decode()}")
            return reader, writer

    return await asyncio.gather(*(one() for _ in range(count)))


def _request(key: str, *, is_streamed: bool) -> bytes:
    prompt = f"pace_us={PACE_US}" if is_streamed else "hello"
    asked = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "stream": is_streamed}
    body = json.dumps(asked | {"max_tokens": TOKENS if is_streamed else 4}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n"
    return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


async def _show(name: str, gateway: GatewayProcess, count: int, seconds: float, before: float | None = None) -> None:
    began, spent = time.monotonic(), sum(gateway.processor_s().values())
    await asyncio.sleep(seconds)
    share = (sum(gateway.processor_s().values()) - spent) / (time.monotonic() - began)
    memory = gateway.memory_mb()
    each = "" if before is None or not count else f", {1e3 * (memory - before) / count:.1f} kB each"
    sys.stdout.write(f"{name:<24}{memory:7.1f} MB{each}, {1e3 * share:.1f} ms of processor time a second\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
