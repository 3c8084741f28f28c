"""A gateway that is killed with -9 while it runs a batch: another one goes on, and nothing is there twice."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.settings import GatewaySettings
from registry.batches.batch import BatchDraft
from registry.batches.batch_state import BatchState
from registry.database import Registry
from registry.settings import RegistrySettings
from registry.types import Base
from tests.clock import Clock
from tests.gateway.replica_rows import replica_row
from tests.gateway.served import ServedGateway
from tests.stub_engine import StubEngine, StubHandler, answer
from tests.waiting import wait_for

pytestmark = pytest.mark.killed

ROOT = Path(__file__).parents[3]
LINES = 120
ROOM = 16
OK = answer(200, b'{"id": "c", "choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 1}}')


@pytest.fixture
def engine() -> Iterator[StubEngine]:
    stub = StubEngine(OK)
    yield stub
    stub.close()


@contextmanager
def doomed(settings: RegistrySettings) -> Iterator[subprocess.Popen[bytes]]:
    """A gateway in a process of its own, killed at the end if not before."""
    program = [sys.executable, str(Path(__file__).with_name("doomed_gateway.py")), settings.model_dump_json(), "0"]
    with subprocess.Popen(program, env=os.environ | {"PYTHONPATH": str(ROOT)}) as process:
        try:
            yield process
        finally:
            process.kill()


def line(number: int) -> bytes:
    body = {"model": "tiny", "messages": [{"role": "user", "content": f"line {number}"}]}
    fields = {"custom_id": f"c{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(fields).encode() + b"\n"


def create(registry: Registry, engine: StubEngine, base: Base) -> str:
    registry.bases.enter(base)
    row = replica_row("r0", url=engine.url, room=ROOM)
    registry.replicas.report(row)
    file = registry.files.add(map(line, range(LINES)), filename="in.jsonl", purpose="batch", owner="ann")
    draft = BatchDraft(
        endpoint="/v1/chat/completions",
        input_file=file.id,
        metadata=None,
        output_expires_after_s=None,
        owner="ann",
        tenant="local",
        key_id="",
    )
    return registry.batches.create(draft, most_open=1).id


def test_a_batch_goes_on_after_kills_without_repeating_what_is_done(
    sqlite_registry: Registry, sqlite_settings: RegistrySettings, base: Base, engine: StubEngine, clock: Clock
) -> None:
    asked: Counter[str] = Counter()
    lock = threading.Lock()
    answers = threading.Semaphore(0)
    """How many further answers the engine gives, so that no gateway comes to the end before it is killed."""

    def count(handler: StubHandler) -> None:
        with lock:
            asked[json.loads(handler.body)["messages"][0]["content"]] += 1
        answers.acquire()
        OK(handler)

    engine.scripts = [count]
    registry, batches = sqlite_registry, sqlite_registry.batches
    # The clock of this process stands still at a time long ago; those that are killed have the real one.
    clock.jump(2e9 - clock())
    batch_id = create(registry, engine, base)
    parts = sorted(random.Random(7).sample(range(5, LINES - 20), 3))
    asked_of_done: list[dict[str, int]] = []
    for part in parts:
        answers.release(part - batches.get(batch_id).completed + ROOM)
        with doomed(sqlite_settings) as process:
            wait_for(lambda: batches.get(batch_id).holder is not None)
            seen = wait_for(lambda part=part: _done_at_least(registry, batch_id, part))  # type: ignore[misc]
            process.kill()
            process.wait()
        held = batches.get(batch_id)
        assert held.holder is not None, "a killed gateway gives nothing back"
        assert held.completed >= seen
        finished = {f"line {number - 1}" for number in batches.answered(batch_id)}  # counted from 1
        with lock:
            asked_of_done.append({content: asked[content] for content in finished})
        hold = batches.claim(held, "nobody")  # as another gateway would, once the lease is over
        assert hold is not None
        batches.release(hold)
    answers.release((len(parts) + 1) * LINES)
    with ServedGateway(GatewaySettings(route_refresh_s=0.05), registry):
        wait_for(lambda: batches.get(batch_id).state.is_terminal)
    done = batches.get(batch_id)
    assert (done.state, done.completed, done.failed) == (BatchState.COMPLETED, LINES, 0)
    assert done.usage.input_tokens == 2 * LINES
    path = registry.files.path(registry.files.get(str(done.output_file)))
    ids = [json.loads(each)["custom_id"] for each in path.read_text().splitlines()]
    assert ids == [f"c{number}" for number in range(LINES)]
    for counts in asked_of_done:
        assert {content: asked[content] for content in counts} == counts, (
            "a line whose result was stored was asked again"
        )
    assert max(asked.values()) <= 1 + len(parts)


def _done_at_least(registry: Registry, batch_id: str, part: int) -> int:
    completed = registry.batches.get(batch_id).completed
    return completed if completed >= part else 0


def test_a_lease_that_nobody_renews_ends_by_silence_alone(
    sqlite_registry: Registry, sqlite_settings: RegistrySettings, base: Base, engine: StubEngine, clock: Clock
) -> None:
    clock.jump(2e9 - clock())
    held = threading.Event()

    def hang(handler: StubHandler) -> None:
        held.wait(30)
        OK(handler)

    engine.scripts = [hang]
    batch_id = create(sqlite_registry, engine, base)
    with doomed(sqlite_settings) as process:
        wait_for(lambda: engine.bodies)
        process.kill()
        process.wait()
    first = sqlite_registry.batches.get(batch_id)
    held.set()
    with ServedGateway(GatewaySettings(route_refresh_s=0.05), sqlite_registry):
        clock.jump(3600)  # the clock on the wall ends no lease
        wait_for(lambda: engine.looks >= 0)
        assert sqlite_registry.batches.get(batch_id).holder == first.holder
        # While time passes the new gateway finds the lease silent; its loop looks several times a second.
        wait_for(lambda: _advanced(clock) and sqlite_registry.batches.get(batch_id).state.is_terminal)
    done = sqlite_registry.batches.get(batch_id)
    assert (done.state, done.completed, done.attempt) == (BatchState.COMPLETED, LINES, 2)


def _advanced(clock: Clock) -> bool:
    clock.advance(1.0)
    return True
