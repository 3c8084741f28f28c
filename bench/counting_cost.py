"""Measure a gateway's processor time per relayed piece of a stream, for answers that are counted and not counted.

    python bench/counting_cost.py --model DIR [--rounds 6] [--clients 4] [--requests 25] [--pieces 100]

A gateway in this process stands before a scripted engine; engine and clients are other processes. Rounds alternate
between the pinned name, which is only relayed, and the adapter's, whose answers are read and counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Final

import httpx2
import uvicorn

sys.path.insert(0, str(Path(__file__).parents[1]))

from gateway.app import build_gateway
from gateway.settings import GatewaySettings
from gateway.up.http_server import server_config
from registry.database import Registry
from registry.rollouts.rollout import RolloutPlan, weighted
from registry.rollouts.rollout_state import RolloutState
from registry.rollouts.tally import total

HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
NAMES: Final = ("support@1", "support")
PIECE_S: Final = 0.002
"""Between two pieces, so that each is read and passed on by itself."""


def main() -> None:
    """Measure and print the medians over the rounds; `--role` is for our own children."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--requests", type=int, default=25, help="of each client in a round")
    parser.add_argument("--pieces", type=int, default=100, help="of each answer")
    parser.add_argument("--role", choices=("measure", "engine", "clients"), default="measure", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--name", help=argparse.SUPPRESS)
    args = parser.parse_args()
    asyncio.run({"measure": measure, "engine": serve_pieces, "clients": stream_all}[args.role](args))


async def measure(args: argparse.Namespace) -> None:
    """Run the rounds and print what a piece cost."""
    from bench.shadow_cost import fill_registry, replica_at  # loads torch, which the children do without

    with tempfile.TemporaryDirectory() as scratch:
        registry = fill_registry(Path(scratch), args.model)
        engine = await child(args, "engine")
        try:
            assert engine.stdout is not None
            registry.replicas.report(replica_at((await engine.stdout.readline()).decode().strip()))
            await run_rounds(registry, args)
        finally:
            engine.kill()
            await engine.wait()
            registry.close()


async def child(args: argparse.Namespace, role: str, *more: str) -> asyncio.subprocess.Process:
    """Start this script once more, in another role."""
    sizes = [f"--{name}={getattr(args, name)}" for name in ("clients", "requests", "pieces")]
    return await asyncio.create_subprocess_exec(
        sys.executable, __file__, f"--role={role}", *sizes, *more, stdin=PIPE, stdout=PIPE
    )


async def run_rounds(registry: Registry, args: argparse.Namespace) -> None:
    """Let the clients stream by either name in turn while a rollout takes traffic."""
    rollout = registry.rollouts.start("support", 2, RolloutPlan(steps=weighted(50, 100)), "load")
    registry.rollouts.move(rollout.id, rollout.state, RolloutState.PROGRESSING, reason="measured")
    server = uvicorn.Server(server_config(build_gateway(GatewaySettings(), registry)))
    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        if serving.done():
            serving.result()
        await asyncio.sleep(0.01)
    url = f"--url=http://127.0.0.1:{listener.getsockname()[1]}"
    costs: dict[str, list[float]] = {name: [] for name in NAMES}
    for index in range(-1, args.rounds):  # the first warms up
        for name in NAMES if index % 2 else NAMES[::-1]:
            used = await cost_of(await child(args, "clients", url, f"--name={name}"))
            if index >= 0:
                costs[name].append(used / (args.clients * args.requests * args.pieces) * 1e6)
    server.should_exit = True
    await serving
    counted = total(registry.tallies.of_rollout(rollout.id).values())
    pinned, routed = (statistics.median(costs[name]) for name in NAMES)
    sys.stdout.write(
        f"microseconds of processor time per piece: {pinned:.0f} relayed, {routed:.0f} relayed and counted, "
        f"ratio {routed / pinned:.2f}; {counted.requests} requests counted, {counted.failures} failures\n"
    )


async def cost_of(clients: asyncio.subprocess.Process) -> float:
    """Return the gateway's processor time from the clients' first request to their last answer."""
    assert clients.stdout is not None
    assert clients.stdin is not None
    await clients.stdout.readline()
    used = time.process_time()
    clients.stdin.write(b"begin\n")
    if await clients.wait() != 0:
        raise SystemExit("the clients failed")
    return time.process_time() - used


async def serve_pieces(args: argparse.Namespace) -> None:
    """Answer every request with a stream, until killed; the address is printed first."""
    delta = {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}
    last = {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    piece, end = (b"data: " + json.dumps(each).encode() + b"\n\n" for each in (delta, last))
    end += b"data: [DONE]\n\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                writer.close()
                return
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            writer.write(HEAD)
            for _ in range(args.pieces):
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await asyncio.sleep(PIECE_S)
            writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(end), end))
            await writer.drain()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


async def stream_all(args: argparse.Namespace) -> None:
    """Stream answers of `name` at `url`, the clients side by side."""
    body = {"model": args.name, "messages": [{"role": "user", "content": "hi"}], "stream": True}

    async def client(http: httpx2.AsyncClient, number: int) -> None:
        for _ in range(args.requests):
            headers = {"x-session-id": f"session-{number}"}
            async with http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
                answer.raise_for_status()
                async for _ in answer.aiter_raw():
                    pass

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    async with httpx2.AsyncClient(base_url=args.url, timeout=60, trust_env=False) as http:
        await asyncio.gather(*(client(http, number) for number in range(args.clients)))


if __name__ == "__main__":
    main()
