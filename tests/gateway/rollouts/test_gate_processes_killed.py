"""Gateway and controller as processes, killed by SIGKILL while the gate of a rollout is being asked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from evaluation.suite_files import suite_from
from gateway.evaluations.suites import keep_suite
from registry.database import Registry
from registry.rollouts.gate import GatePlan
from registry.rollouts.rollout import Rollout, RolloutPlan, weighted
from registry.rollouts.rollout_state import RolloutState
from registry.types import LOCAL_TENANT, Base
from tests.gateway.evaluations.answers_by_model import by_prompt, echo_suite
from tests.gateway.rollouts.rollout_scene import RolloutScene
from tests.kills.part import home_registry
from tests.waiting import wait_for

pytestmark = [pytest.mark.long, pytest.mark.killed]

ROWS = 6
ANSWERED = 3
LIMIT_S = 120.0
ROOT = Path(__file__).parents[3]


class Answers:
    """A stub engine's answers: those after the third wait until they may come."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.may_come = threading.Event()

    def reply(self, _model: str, prompt: str, _body: object) -> str:
        self.asked[prompt] += 1
        if sum(self.asked.values()) > ANSWERED:
            self.may_come.wait(LIMIT_S)
        return prompt


@pytest.fixture
def home(tmp_path: Path, sqlite_template: Path) -> Path:
    shutil.copy(sqlite_template, tmp_path / "registry.db")
    return tmp_path


@pytest.fixture
def registry(home: Path) -> Iterator[Registry]:
    opened = home_registry(home)
    yield opened
    opened.close()


@contextmanager
def part(name: str, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A gateway, or a controller, of the home as a process, which is killed after the block."""
    command = [sys.executable, "-m", "tests.kills.part", name, str(home), "0"]
    with (home / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"LORRY_HOME": str(home)}, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def heartbeats(registry: Registry) -> Iterator[None]:
    """Report the replicas again and again, as their actors would: the controller counts silent ones as gone."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(0.5):
            for replica in registry.replicas.list():
                registry.replicas.report(replica)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def gated_rollout(registry: Registry) -> Rollout:
    suite = suite_from(echo_suite(ROWS))
    keep_suite(registry, suite, LOCAL_TENANT)
    gate = GatePlan(suite="numbers", min=0.9, digest=suite.digest)
    return registry.rollouts.start("support", 2, RolloutPlan(steps=weighted(50, 100), gate=gate), "ann")


def test_a_gate_goes_on_after_its_gateway_and_its_controller_were_killed_at_work(
    registry: Registry, home: Path, base: Base, make_adapter: Callable[..., Path]
) -> None:
    scene, answers = RolloutScene(registry, base, make_adapter), Answers()
    scene.add_replica(by_prompt(answers.reply))
    rollout = gated_rollout(registry)

    def answered() -> int:
        found = registry.evaluations.of_rollout(rollout.id)
        return sum(each.done for each in found.values())

    def decided() -> bool:
        return registry.rollouts.get(rollout.id).state is not RolloutState.PENDING

    try:
        with heartbeats(registry):
            with part("controller", home), part("gateway", home):
                wait_for(lambda: answered() >= ANSWERED, LIMIT_S)
            (before,) = registry.evaluations.of_rollout(rollout.id).values()
            assert (before.attempt, decided()) == (1, False)
            answers.may_come.set()
            with part("controller", home), part("gateway", home):
                wait_for(decided, LIMIT_S)
        (after,) = registry.evaluations.of_rollout(rollout.id).values()
        assert (after.id, after.attempt, after.done) == (before.id, 2, ROWS)
        assert registry.rollouts.get(rollout.id).reason == "gate_passed"
        assert min(answers.asked.values()) == 1, "an answer that was stored is not asked again"
        assert sum(answers.asked.values()) < 2 * ROWS
    finally:
        answers.may_come.set()
        scene.close()
