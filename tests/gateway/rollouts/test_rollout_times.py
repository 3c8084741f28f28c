"""A rollout that is judged by times takes a slower canary back, and does not blame it for a slow replica."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import count

import httpx2
import pytest

from gateway.rollouts.controller import reconcile
from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.rollouts.guardrail_names import Guardrail
from registry.rollouts.guardrails import guardrails_from
from registry.rollouts.rollout import Rollout, RolloutPlan, weighted
from registry.rollouts.rollout_state import RolloutState
from tests.clock import Clock
from tests.gateway.rollouts.rollout_scene import CHAT, RolloutScene, events
from tests.stub_engine import Script, by_model, stream_slowly
from tests.waiting import wait_for

pytestmark = pytest.mark.long

CLIENTS = 20
KNOBS = GatewaySettings(heartbeat_timeout_s=86400.0)
TIMES = ("ttft_p95", "tpot_p95")
# Half as long again is no accident on a busy machine either, where a tenth is. The other guardrails are off: those
# that are judged share `alpha`, and each needs more requests the smaller its share is.
MARGINS = {str(each): 0.5 if each in TIMES else False for each in Guardrail}
PLAN = RolloutPlan(steps=weighted(50, 100), guardrails=guardrails_from({**MARGINS, "min_samples": 30}))
ROLE, FIRST, *OTHERS = events("one", "two", "three", "four", "five", "six")


def timed(first_s: float, each_s: float) -> Script:
    """A stream of six words that takes *first_s* for the first and *each_s* for each of the others."""
    return stream_slowly((0.0, ROLE), (first_s, FIRST), *((each_s, chunk) for chunk in OTHERS))


USUAL = timed(0.02, 0.004)
# Far slower than what a busy machine adds to both: the usual word waits a third of a second there.
SLOW_TO_BEGIN = timed(0.8, 0.004)
SLOW_TO_GO_ON = timed(0.02, 0.15)


class Rush:
    """Clients that stream all the time, each request a new conversation, and a controller beside."""

    def __init__(self, scene: RolloutScene, clock: Clock) -> None:
        self._scene, self._clock = scene, clock
        self._stop = threading.Event()
        client = scene.client()
        self._threads = [threading.Thread(target=self._chat, args=(client, number)) for number in range(CLIENTS)]
        self._threads.append(threading.Thread(target=self._control))
        for thread in self._threads:
            thread.start()

    def _chat(self, client: httpx2.Client, number: int) -> None:
        for turn in count():
            if self._stop.is_set():
                return
            session = {"x-session-id": f"{number}-{turn}"}
            client.post("/v1/chat/completions", json={**CHAT, "stream": True}, headers=session)

    def _control(self) -> None:
        while not self._stop.wait(KNOBS.reconcile_s):
            self._clock.at = time.time()
            reconcile(self._scene.registry, KNOBS, self._clock.at)

    def stop(self) -> None:
        """Wait until everybody has had the last answer."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture(autouse=True)
def now(clock: Clock) -> None:
    """It is today, for replicas that report before the traffic begins too."""
    clock.at = time.time()


@pytest.fixture
def begun(scene: RolloutScene) -> Iterator[list[Rush]]:
    """Holds the traffic that a test begins."""
    traffic: list[Rush] = []
    yield traffic
    for each in traffic:
        each.stop()


def begin(registry: Registry) -> Rollout:
    """A rollout whose first step has begun, though not every replica needs to have the canary by now."""
    rollout = registry.rollouts.start("support", 2, PLAN, "ann")
    return registry.rollouts.move(rollout.id, rollout.state, RolloutState.PROGRESSING, reason="loaded")


def end_of(scene: RolloutScene, clock: Clock, begun: list[Rush]) -> Rollout:
    """The rollout once it has ended by itself under traffic."""
    rollout = begin(scene.registry)
    begun.append(Rush(scene, clock))
    wait_for(lambda: scene.registry.rollouts.get(rollout.id).state.is_terminal)
    ended = scene.registry.rollouts.get(rollout.id)
    print(ended.message)  # noqa: T201  figures for people, shown by -rP
    return ended


@pytest.mark.parametrize(("canary", "guardrail"), [(SLOW_TO_BEGIN, "ttft_p95"), (SLOW_TO_GO_ON, "tpot_p95")])
def test_a_slower_canary_is_taken_back_by_what_is_slower(
    scene: RolloutScene, clock: Clock, begun: list[Rush], canary: Script, guardrail: str
) -> None:
    scene.add_replica(by_model(r1=USUAL, r2=canary))
    ended = end_of(scene, clock, begun)
    assert (ended.state, ended.reason) == (RolloutState.ABORTED, guardrail)
    assert scene.registry.adapters.get("support").stable == 1


def test_a_canary_that_only_a_slow_replica_has_is_taken_back(
    scene: RolloutScene, clock: Clock, begun: list[Rush]
) -> None:
    scene.add_replica(USUAL, loaded=(1,))
    scene.add_replica(SLOW_TO_BEGIN, loaded=(2,))
    ended = end_of(scene, clock, begun)
    assert (ended.state, ended.reason) == (RolloutState.ABORTED, "ttft_p95")
    assert "on replicas where stable answered nothing" in ended.message


def test_a_slow_replica_that_both_share_is_not_held_to_the_canary(
    scene: RolloutScene, clock: Clock, begun: list[Rush]
) -> None:
    scene.add_replica(USUAL)
    scene.add_replica(SLOW_TO_BEGIN)
    ended = end_of(scene, clock, begun)
    assert (ended.state, ended.reason) == (RolloutState.PROMOTED, "no_violation")
