"""A fuzzer for a whole gateway: odd requests and odd bytes by the thousand, each made from a seed and its number."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from shlex import quote
from typing import Any, Final

from fastapi import FastAPI

from gateway.endpoints import ROUTERS
from tests.fuzz.answers import Answer, Fault, judge, read_answer
from tests.fuzz.engine import QuickEngine
from tests.fuzz.odd_bytes import RawTurn, raw_turn
from tests.fuzz.odd_requests import OddRequest, OddRequests

WORKERS: Final = 16
RAW_SHARE: Final = 0.3
ANSWER_S: Final = 15.0
"""How long any answer may take; the longest wait of the fuzzed gateway's settings is 5 s."""
FIRST_ANSWER_S: Final = 1.7
"""How long a client that may send more waits for its first answer: the fuzzed gateway waits 1 s for the rest."""
NEXT_ANSWER_S: Final = 0.2
ROUND: Final = 500
"""After so many requests ids are read anew and a good chat is asked."""
MOST_MEMORY: Final = 400 << 20
"""Resident memory that a fuzzed gateway may take: 150 MB at rest, and what bodies of 1 to 2 MiB need."""
MOST_BLOCKED_S: Final = 0.5
"""Longest time for which the event loop may compute without a pause."""
GOOD_CHAT: Final = b'{"model":"support","messages":[{"role":"user","content":"good"}]}'
_SHOWN: Final = 6000
_LARGEST: Final = 64 << 20


@dataclass(slots=True, kw_only=True)
class Figures:
    """The result of a run."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    rss: list[int] = field(default_factory=list)
    blocked_s: list[float] = field(default_factory=list)

    def text(self) -> str:
        """Return the figures in a few lines."""
        statuses = ", ".join(f"{status}: {number}" for status, number in sorted(self.statuses.items()))
        first, most = (self.rss[0] >> 20, max(self.rss) >> 20) if self.rss else (0, 0)
        lines = [f"{self.requests} requests, {len(self.faults)} faults; answers {statuses}"]
        blocked_s = max(self.blocked_s, default=0.0)
        lines.append(f"memory {first} MB at first, {most} MB at most; loop blocked {blocked_s:.3f} s at most")
        return "\n".join([*lines, *self._kinds()])

    def _kinds(self) -> list[str]:
        """Return how often each kind of fault was found, each with its first one."""
        kinds: dict[str, list[str]] = {}
        for fault in self.faults:
            kinds.setdefault(_kind_of(fault), []).append(fault)
        return [f"{len(found)} times: {found[0]}" for found in sorted(kinds.values(), key=len, reverse=True)]


def _kind_of(fault: str) -> str:
    """Return what faults with one cause have in common: their beginning without numbers."""
    return re.sub(r"[^a-zA-Z]+", " ", fault.partition(": ")[2])[:50]


class Fuzzing:
    """A gateway under fire."""

    def __init__(self, port: int, keys: Sequence[str], seed: int, described: Any) -> None:
        self._port = port
        self._keys = keys
        self._seed = seed
        self._requests = OddRequests(described, keys, may_make_keys=bool(keys))
        self._ids: dict[str, list[str]] = {}
        self.figures = Figures()

    async def run(self, numbers: Sequence[int]) -> None:
        """Send the requests of these numbers; faults are in the figures."""
        for begin in range(0, len(numbers), ROUND):
            await self._look()
            waiting = iter(numbers[begin : begin + ROUND])
            async with asyncio.TaskGroup() as group:
                for _ in range(WORKERS):
                    group.create_task(self._work(waiting))
        await self._look()

    async def _work(self, waiting: Iterator[int]) -> None:
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        for number in waiting:
            rng = Random(f"{self._seed}/{number}")
            self.figures.requests += 1
            if rng.random() < RAW_SHARE:
                await self._raw(number, raw_turn(rng, self._keys))
            else:
                connection = await self._ask(number, self._requests.make(rng), connection)
        if connection is not None:
            connection[1].close()

    async def _ask(
        self, number: int, odd: OddRequest, connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """Send a request and judge its answer; return the connection if it may be used again."""
        sent = self._with_ids(odd.bytes(self._port), Random(number))
        is_head = odd.method == "HEAD"
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = None
                if connection is not None:
                    answer = await self._once(connection, sent, is_head=is_head)
                if answer is None:  # also where the kept connection was closed meanwhile
                    if connection is not None:
                        connection[1].close()
                    connection = await self._connect()
                    answer = await self._once(connection, sent, is_head=is_head)
            if answer is None:
                raise Fault("no answer")
            self.figures.statuses[answer.status] += 1
            judge(answer, is_head=is_head)
        except TimeoutError:
            self._note(number, f"no answer within {ANSWER_S} s", sent)
        except Fault as exc:
            self._note(number, str(exc), sent)
        else:
            if not answer.closes:
                return connection
        if connection is not None:
            connection[1].close()
        return None

    async def _once(
        self, connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], sent: bytes, *, is_head: bool
    ) -> Answer | None:
        reader, writer = connection
        try:
            writer.write(sent)
            await writer.drain()
        except ConnectionError:
            pass  # refused before it was whole: the answer is there
        return await read_answer(reader, is_head=is_head)

    async def _raw(self, number: int, turn: RawTurn) -> None:
        """Send odd bytes and judge every answer to them, until the connection ends or nothing more comes."""
        reader, writer = await self._connect()
        sent = b"".join(turn.pieces)
        wait_s = ANSWER_S if turn.is_half_closed else FIRST_ANSWER_S
        try:
            await _send(writer, turn)
            while not turn.reads_nothing:
                async with asyncio.timeout(wait_s):
                    answer = await read_answer(reader, is_head=False)
                if answer is None:
                    break
                self.figures.statuses[answer.status] += 1
                judge(answer, is_head=False)
                wait_s = wait_s if turn.is_half_closed else NEXT_ANSWER_S
        except TimeoutError:  # else the connection waits for another request
            if turn.is_half_closed:
                self._note(number, f"the connection stays open {wait_s} s after its client's end", sent)
        except Fault as exc:
            self._note(number, str(exc), sent)
        finally:
            writer.close()

    async def _look(self) -> None:
        """Check that a good chat is answered, and read which ids there are."""
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        answer = await self._plain(head + b"content-length: %d\r\n" % len(GOOD_CHAT), GOOD_CHAT)
        if answer.status != 200 or b"choices" not in answer.body:
            self.figures.faults.append(f"a good chat is answered {answer.status}: {answer.body[:300]!r}")
        sources = {
            "file": "/v1/files?limit=20",
            "job": "/v1/fine_tuning/jobs?limit=20",
            "publication": "/admin/jobs?limit=20",
            "rollout": "/admin/rollouts?limit=5",
            "replica": "/admin/replicas",
        }
        for name, target in sources.items():
            answer = await self._plain(b"GET %b HTTP/1.1\r\nhost: 127.0.0.1\r\n" % target.encode(), b"")
            if answer.status != 200:
                self.figures.faults.append(f"GET {target} is answered {answer.status}: {answer.body[:300]!r}")
                continue
            self._ids[name] = [row["id"] for row in json.loads(answer.body)["data"]]

    async def _plain(self, head: bytes, body: bytes) -> Answer:
        reader, writer = await self._connect()
        key = b"authorization: Bearer %b\r\n" % self._keys[0].encode() if self._keys else b""
        writer.write(head + key + b"connection: close\r\n\r\n" + body)
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await read_answer(reader, is_head=False)
        finally:
            writer.close()
        if answer is None:
            raise Fault("no answer to a good request")
        return answer

    def _with_ids(self, sent: bytes, rng: Random) -> bytes:
        for name, ids in self._ids.items():
            mark = b"{%b}" % name.encode()
            if ids and mark in sent:
                sent = _replaced(sent, mark, rng.choice(ids))
        return sent

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port, limit=_LARGEST)

    def _note(self, number: int, fault: str, sent: bytes) -> None:
        """Keep the fault, with the words that repeat its request."""
        shown = "".join(
            chr(byte) if 32 <= byte < 127 and byte not in b"\\'%" else f"\\x{byte:02x}" for byte in sent[:_SHOWN]
        )
        more = "" if len(sent) <= _SHOWN else f"  # and {len(sent) - _SHOWN} bytes more"
        repeat = f"printf '%b' {quote(shown)} | nc 127.0.0.1 PORT{more}"
        self.figures.faults.append(f"seed {self._seed} number {number}: {fault}\n    {repeat}")


def _replaced(sent: bytes, mark: bytes, found: str) -> bytes:
    """Put an id in, and correct the length of the body."""
    head, _, body = sent.partition(b"\r\n\r\n")
    whole = body.replace(mark, found.encode())
    head = head.replace(b"content-length: %d" % len(body), b"content-length: %d" % len(whole))
    return head.replace(mark, found.encode()) + b"\r\n\r\n" + whole


async def _send(writer: asyncio.StreamWriter, turn: RawTurn) -> None:
    try:
        for piece in turn.pieces:
            writer.write(piece)
            await writer.drain()
            if len(turn.pieces) > 1:
                await asyncio.sleep(0.002)
        if turn.is_half_closed:
            writer.write_eof()
    except (ConnectionError, OSError):
        pass  # the gateway may close before all is sent


async def fuzz(folder: Path, seed: int, numbers: Sequence[int], *, with_keys: bool) -> Figures:
    """Start a gateway in *folder*, send it the requests of *numbers*, end it, and return what came of it."""
    engine = QuickEngine()
    server = await engine.start()
    command = [sys.executable, "-m", "tests.fuzz.fuzzed_gateway", str(folder), engine.url]
    process = await asyncio.create_subprocess_exec(
        *command, *(["--keys"] if with_keys else []), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        told = json.loads(await process.stdout.readline())
        fuzzing = Fuzzing(told["port"], told["keys"], seed, described())
        watching = asyncio.create_task(_watch(process.stdout, fuzzing.figures))
        await fuzzing.run(numbers)
        watching.cancel()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        server.close()
    fuzzing.figures.faults += _logged(folder / "gateway.log")
    return _bounded(fuzzing.figures)


def described() -> Any:
    """Return the OpenAPI description of the gateway."""
    app = FastAPI()
    for router in ROUTERS:
        app.include_router(router)
    return app.openapi()


async def _watch(lines: asyncio.StreamReader, figures: Figures) -> None:
    async for line in lines:
        told = json.loads(line)
        figures.rss.append(told["rss"])
        figures.blocked_s.append(told["blocked_s"])


def _logged(path: Path) -> list[str]:
    """Return the errors in the log; a client may have seen no more of them than the end of its connection."""
    entries = re.split(r"^(?=[A-Z]+:)", path.read_text(errors="replace"), flags=re.MULTILINE)
    return [f"logged: {entry[-_SHOWN:]}" for entry in entries if entry.startswith(("ERROR:", "CRITICAL:"))]


def _bounded(figures: Figures) -> Figures:
    """Add the faults of memory and of the loop."""
    if max(figures.rss, default=0) > MOST_MEMORY:
        figures.faults.append(f"the gateway took {max(figures.rss) >> 20} MB")
    if max(figures.blocked_s, default=0.0) > MOST_BLOCKED_S:
        figures.faults.append(f"its loop was blocked for {max(figures.blocked_s):.2f} s")
    return figures
