"""Clients of many manners: paced streams, whole answers, large prompts, clients that leave, refused requests.

Each sends raw HTTP, since 64 of them share a core with what they measure.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bench.comparison.native import MODEL

TIMEOUT_S: Final = 60.0
PAUSE_S: Final = 1.2
"""The mean pause of a client between two requests."""
KEEPS: Final = 0.7
"""The share of requests after which a client keeps its connection."""
_READ: Final = 65536
_FILLER: Final = "word " * 60_000
_LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """A way to ask."""

    share: float
    path: str = "/v1/chat/completions"
    is_streamed: bool = False
    tokens: int = 16
    pace_us: int = 0
    most_prompt_bytes: int = 500
    model: str | None = None
    """None for one of those that are served."""
    key: str | None = None
    expected: int = 200
    leaves_after: int | None = None
    """Bytes of the answer after which the client leaves; 0 for one that leaves in the middle of its own request."""


MANNERS: Final[dict[str, Manner]] = {
    "paced stream": Manner(share=0.30, is_streamed=True, tokens=30, pace_us=60_000),
    "whole answer": Manner(share=0.25),
    "large prompt": Manner(share=0.10, most_prompt_bytes=300_000),
    "large prompt, streamed": Manner(share=0.05, is_streamed=True, most_prompt_bytes=300_000),
    "Anthropic's form": Manner(share=0.05, path="/v1/messages"),
    "Anthropic's form, streamed": Manner(share=0.05, path="/v1/messages", is_streamed=True),
    "leaves a stream": Manner(share=0.08, is_streamed=True, tokens=200, pace_us=60_000, leaves_after=1000),
    "leaves a request": Manner(share=0.04, most_prompt_bytes=200_000, leaves_after=0),
    "unknown model": Manner(share=0.04, model="nobody-published-this", expected=404),
    "unknown key": Manner(share=0.04, key="lorry-not-a-key", expected=401),
}


@dataclass(slots=True, kw_only=True)
class Crowd:
    """The state that clients share: where they ask, what for, and the outcomes."""

    port: int
    key: str
    served: list[str] = field(default_factory=lambda: [MODEL])
    """Names that may be asked for; whoever publishes adds to it and removes from it."""
    ended: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    async def behave(self, seed: int) -> None:
        """Be one client until cancelled."""
        source = random.Random(seed)
        shares = [manner.share for manner in MANNERS.values()]
        connection: Connection | None = None
        try:
            while True:
                await asyncio.sleep(source.expovariate(1 / PAUSE_S))
                (name,) = source.choices(list(MANNERS), shares)
                connection = await self._ask(name, source, connection)
                if connection is not None and source.random() > KEEPS:
                    connection[1].close()
                    connection = None
        finally:
            if connection is not None:
                connection[1].close()

    async def _ask(self, name: str, source: random.Random, connection: Connection | None) -> Connection | None:
        """Send a request of this manner; return its connection if it may be used again."""
        manner = MANNERS[name]
        model = manner.model or source.choice(self.served)
        wire = _wire(manner, model, manner.key or self.key, source)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                connection = connection or await asyncio.open_connection("127.0.0.1", self.port)
                fault, is_whole = await _exchange(connection, wire, manner)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as exc:
            fault, is_whole = type(exc).__name__, False
        self.ended[name] += 1
        if fault:
            self.failed[f"{name}: {fault}"] += 1
        if not is_whole and connection is not None:
            connection[1].transport.abort()
            return None
        return connection


async def _exchange(connection: Connection, wire: bytes, manner: Manner) -> tuple[str, bool]:
    """Return what was wrong, empty for nothing, and whether the connection is at the end of an answer."""
    reader, writer = connection
    if manner.leaves_after == 0:
        writer.write(wire[: len(wire) // 2])
        return "", False
    writer.write(wire)
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    if status != manner.expected:
        return f"status {status}", False
    length = _LENGTH.search(head)
    if length is not None:
        await reader.readexactly(int(length[1]))
        return "", b"connection: close" not in head.lower()
    seen, last = 0, b""
    while not last.endswith(b"0\r\n\r\n"):
        if manner.leaves_after is not None and seen > manner.leaves_after:
            return "", False
        part = await reader.read(_READ)
        if not part:
            return "cut", False
        seen, last = seen + len(part), (last + part)[-len(b"0\r\n\r\n") :]
    return "", True


def _wire(manner: Manner, model: str, key: str, source: random.Random) -> bytes:
    size = int(source.uniform(20, manner.most_prompt_bytes))
    prompt = f"pace_us={manner.pace_us} {source.randbytes(8).hex()} " + _FILLER[:size]
    asked: dict[str, Any] = {"model": model, "max_tokens": manner.tokens, "stream": manner.is_streamed}
    body = json.dumps(asked | {"messages": [{"role": "user", "content": prompt}]}).encode()
    head = f"POST {manner.path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n"
    return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def summary(crowd: Crowd) -> Sequence[str]:
    """Return a line for each manner, and one for each kind of failure."""
    lines = [f"{crowd.ended[name]:>9,} {name}" for name in MANNERS]
    return [*lines, *(f"{count:>9,} failed, {what}" for what, count in crowd.failed.most_common())]
