"""Each kind of engine behind the gateway, whole: base answer, revisions, canary, rollback, a process that is killed.

The lines that are printed meanwhile are the transcript of a person doing it; `-s` shows them.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import psutil
import pytest

from gateway.engines_settings import BUNDLED_BASE
from tests.contract.kinds import CASES, link_environments
from tests.scenarios.quiz import QUIZ, messages
from tests.scenarios.rollout_clients import Clients, Operator
from tests.trainer.tiny_base import save_base, save_tokenizer
from tests.up_process import Up
from tests.waiting import wait_for

pytestmark = pytest.mark.scenario

TINY: Final = "tiny"
CHANGE_S: Final = 400.0
LOAD_S: Final = 400.0
"""An engine with fixed adapters is replaced by another process for each of them."""
CONFIG: Final = """
[gateway]
replica_wait_s = 300

[engines]
replace_drain_s = 20

[[engines.pools]]
name = "story"
kind = "{kind}"
engine = {{ max_adapters = 2, max_context = 512, max_batch = 8, max_rank = 16 }}

[[engines.pools]]
name = "other"
base = "{tiny}"
engine = {{ max_context = 256 }}
"""

Say = Callable[[str], None]


@pytest.fixture(scope="module", params=CASES.values())
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of engine that the story is about."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def up(kind: str, home: Path, port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A Lorry that serves the bundled model by this kind, and beside it another base model by ours."""
    link_environments(home, kind)
    tiny: Path = tmp_path_factory.mktemp(TINY) / TINY
    save_base(tiny)
    save_tokenizer(tiny)
    running = Up(home, port, CONFIG.format(kind=kind, tiny=tiny))
    yield running
    if running.process.poll() is None:
        running.stop(signal.SIGKILL)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], kind: str) -> Say:
    """Shows a line of the transcript though the test passes, with the seconds since the last one."""
    last = time.monotonic()

    def show(line: str) -> None:
        nonlocal last
        passed_s, last = time.monotonic() - last, time.monotonic()
        with capsys.disabled():
            print(f"\n  {kind} +{passed_s:.0f} s: {line}", end="")  # noqa: T201  a transcript for people

    return show


def test_the_story_of_an_engine(up: Up, kind: str, say: Say) -> None:
    operator = Operator(up)
    say(up.ready_line.strip())
    said = {BUNDLED_BASE: ask(up, BUNDLED_BASE), TINY: ask(up, TINY)}
    operator.publish("support", "good", LOAD_S)
    said |= {name: ask(up, name) for name in ("support@1", "support@2")}
    for name, text in said.items():
        say(f"{name} says {text!r}")
    assert len(set(said.values())) == len(said)
    for line in proofs(operator):
        say(line)
    roll_out_and_back(up, operator, say)
    kill_under_load(up, kind, say)


def roll_out_and_back(up: Up, operator: Operator, say: Say) -> None:
    """A quarter of the conversations, all of them, and back; no request fails."""
    with Clients(up, "support", clients=4) as clients:
        clients.answered(8)
        operator.start("support", "--steps", "25,100", "--no-judge")
        wait_for(lambda: {"support@1", "support@2"} <= {one.revision for one in clients.answers}, CHANGE_S)
        say(" ".join(up.lorry("rollout", "promote", "support").split()))
        promoted_at = time.time()
        assert {one.revision for one in clients.sent_after(promoted_at + 1, 8)} == {"support@2"}
        say(" ".join(up.lorry("rollback", "support").split()))
        back_at = time.time()
        assert {one.revision for one in clients.sent_after(back_at + 1, 8)} == {"support@1"}
    assert (clients.failures, clients.cut_off) == ([], [])
    say(f"{len(clients.answers)} requests answered meanwhile, none failed")


def kill_under_load(up: Up, kind: str, say: Say) -> None:
    """The engine is killed and comes back with its adapters; only streams that had begun end with an error."""
    with Clients(up, "support", clients=4) as clients:
        clients.answered(8)
        began = time.time()
        server_of(up, kind).kill()
        after = clients.sent_after(began + 1, 8, CHANGE_S)
    say(f"killed: first answer to a request sent later after {min(one.done_at for one in after) - began:.0f} s")
    assert {one.revision for one in after} == {"support@1"}
    assert len(clients.failures) + len(clients.cut_off) <= 4
    say(f"{len(clients.failures)} streams ended with an error event, {len(clients.cut_off)} without a word")
    assert clients.cut_off == []


def ask(up: Up, model: str) -> str:
    """A greedy answer, from the model that was asked for."""
    told = up.client().chat.completions.create(model=model, messages=messages(QUIZ[0]), max_tokens=16, temperature=0)
    assert told.model == model
    return told.choices[0].message.content or ""


def proofs(operator: Operator) -> list[str]:
    """Return the proof of each slot of the engine."""
    slots = [slot for replica in operator.get("/admin/replicas")["data"] for slot in replica["slots"]]
    return [f"{slot['served_name']}: proof {json.dumps(slot['proof'])}" for slot in slots]


def server_of(up: Up, kind: str) -> psutil.Process:
    """The process that answers for the engine of this kind."""
    (url,) = (
        replica["url"]
        for replica in Operator(up).get("/admin/replicas")["data"]
        if (replica["engine"], replica["pool"], replica["state"]) == (kind, "story", "ready")
    )
    return up.listener(url)
