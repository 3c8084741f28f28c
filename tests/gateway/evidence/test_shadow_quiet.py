"""Copies run only while no client is at their replica, and a client that comes is not slowed by them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import httpx2
import pytest

from registry.rollouts.rollout import Rollout
from registry.rollouts.rollout_state import RolloutState
from registry.rollouts.tally import Side, Tally
from tests.gateway.rollouts.rollout_scene import CHAT, SETTINGS, RolloutScene, events, said, streamed
from tests.stub_engine import Script, StubHandler, by_model, stream_then_wait
from tests.waiting import wait_for

IMPATIENT = SETTINGS.model_copy(update={"shadow_wait_s": 0.3})


class Endless:
    """A canary that never stops by itself; `cut_off` counts those who did not want it any more."""

    def __init__(self) -> None:
        self._began = threading.Semaphore(0)
        self._cut_off = threading.Semaphore(0)
        self._script = stream_then_wait(*events("on and on", finish=None))

    def __call__(self, handler: StubHandler) -> None:
        self._began.release()
        with contextlib.suppress(ConnectionError):
            self._script(handler)
        self._cut_off.release()

    def has_begun(self) -> bool:
        return self._began.acquire(timeout=60)

    def was_cut_off(self) -> bool:
        return self._cut_off.acquire(timeout=60)


class Visit:
    """A client's request that is answered when it is let go."""

    def __init__(self) -> None:
        self._end = threading.Event()
        self._began = threading.Event()

    def __call__(self, handler: StubHandler) -> None:
        self._began.set()
        self._end.wait(20)
        said("stable")(handler)

    def begin(self, client: httpx2.Client) -> Callable[[], None]:
        """Send it, and return when it is at the engine, what ends it."""
        asking = threading.Thread(target=client.post, args=("/v1/chat/completions",), kwargs={"json": CHAT})
        asking.start()
        assert self._began.wait(20)

        def end() -> None:
            self._end.set()
            asking.join()

        return end


@pytest.fixture
def rollout(scene: RolloutScene) -> Rollout:
    """Every request of stable's is to be copied."""
    return scene.start("shadow:100")


@pytest.fixture
def visit() -> Iterator[Visit]:
    made = Visit()
    yield made
    made._end.set()


def ask(client: httpx2.Client) -> None:
    """A request that is answered."""
    assert client.post("/v1/chat/completions", json=CHAT, timeout=60).status_code == 200


def left_out(scene: RolloutScene, rollout: Rollout, reason: str) -> bool:
    """Whether one copy was left out for this reason, and nothing else is known of it."""
    cells = scene.cells(rollout).items()
    return Tally(copies_left_out={reason: 1}) in [tally for cell, tally in cells if cell.side is Side.SHADOW_CANARY]


def one_at_a_time(script: Script) -> Script:
    """An engine that has no room for two."""
    alone = threading.Lock()

    def answer(handler: StubHandler) -> None:
        with alone:
            script(handler)

    return answer


def test_a_client_is_answered_at_once_though_the_copy_there_would_never_end(
    scene: RolloutScene, rollout: Rollout
) -> None:
    canary = Endless()
    scene.add_replica(one_at_a_time(by_model(r1=said("stable"), r2=canary)))
    client = scene.client()
    ask(client)
    for _ in range(3):
        assert canary.has_begun()
        ask(client)
        assert canary.was_cut_off()
    scene.end(client)
    tallies = {cell.side: tally for cell, tally in scene.cells(rollout).items()}
    assert tallies.keys() == {Side.STABLE, Side.SHADOW_CANARY}
    assert tallies[Side.STABLE].requests == 4
    assert tallies[Side.SHADOW_CANARY] == Tally(copies_left_out={"cut_off": 3})


def test_a_client_of_the_same_gateway_does_not_wait_for_the_engines_figures(
    scene: RolloutScene, rollout: Rollout
) -> None:
    canary = Endless()
    engine = scene.add_replica(one_at_a_time(by_model(r1=said("stable"), r2=canary)))
    client = scene.client()
    ask(client)
    assert canary.has_begun()
    engine.running = None
    ask(client)
    assert canary.was_cut_off()


def test_a_client_of_another_gateway_is_seen_in_the_engines_figures(
    scene: RolloutScene, rollout: Rollout, visit: Visit
) -> None:
    canary = Endless()
    scene.add_replica(said("stable"), by_model(r1=visit, r2=canary))
    one, other = scene.client(), scene.client()
    ask(one)
    assert canary.has_begun()
    end = visit.begin(other)
    assert canary.was_cut_off()
    wait_for(lambda: left_out(scene, rollout, "cut_off"))
    end()


def test_a_copy_waits_until_the_clients_have_left(scene: RolloutScene, rollout: Rollout, visit: Visit) -> None:
    engine = scene.add_replica(by_model(r1=visit, r2=said("canary")), said("stable"), said("canary"))
    client = scene.client()
    end = visit.begin(client)
    ask(client)
    end()
    assert scene.counted(rollout, Side.SHADOW_CANARY, 1).requests == 1
    assert [b"support@2" in body for body in engine.bodies][:3] == [False, False, True]


def test_a_copy_that_finds_no_quiet_moment_is_left_out(scene: RolloutScene, rollout: Rollout, visit: Visit) -> None:
    engine = scene.add_replica(visit, said("stable"))
    client = scene.client(IMPATIENT)
    end = visit.begin(client)
    ask(client)
    wait_for(lambda: left_out(scene, rollout, "replica_busy"))
    assert len(engine.bodies) == 2
    end()


@pytest.mark.long
@pytest.mark.parametrize(("running", "reason"), [(1, "replica_busy"), (None, "load_unknown")])
def test_an_engine_that_is_busy_or_does_not_say_gets_no_copy(
    scene: RolloutScene, rollout: Rollout, running: int | None, reason: str
) -> None:
    engine = scene.add_replica(said("stable"))
    engine.running = running
    ask(scene.client(IMPATIENT))
    wait_for(lambda: left_out(scene, rollout, reason))
    assert len(engine.bodies) == 1


def test_where_it_is_allowed_a_copy_runs_beside_a_client_but_not_beside_two(
    scene: RolloutScene, rollout: Rollout, visit: Visit
) -> None:
    canary = Endless()
    scene.add_replica(visit, said("stable"), by_model(r1=said("stable"), r2=canary))
    client = scene.client(SETTINGS.model_copy(update={"shadow_client_requests": 1}))
    end = visit.begin(client)
    ask(client)
    assert canary.has_begun()
    ask(client)
    assert canary.was_cut_off()
    end()


def test_the_answers_of_one_copy_are_not_taken_for_clients(scene: RolloutScene, rollout: Rollout) -> None:
    engine = scene.add_replica(said("stable"))

    def canary(handler: StubHandler) -> None:
        engine.add_running(1)  # two choices are two sequences
        looks = engine.looks
        wait_for(lambda: engine.looks >= looks + 2)
        engine.add_running(-1)
        streamed("canary")(handler)

    engine.scripts[:] = [by_model(r1=said("stable"), r2=canary)]
    assert scene.client().post("/v1/chat/completions", json=CHAT | {"n": 2}).status_code == 200
    assert scene.counted(rollout, Side.SHADOW_CANARY, 1).requests == 1


def test_a_copy_that_waited_beyond_its_step_is_left_out(scene: RolloutScene, rollout: Rollout, visit: Visit) -> None:
    scene.add_replica(visit, said("stable"))
    gateway = scene.serve()
    end = visit.begin(gateway.client)
    ask(gateway.client)
    scene.registry.rollouts.move(rollout.id, rollout.state, RolloutState.ABORTED, reason="test")
    wait_for(lambda: gateway.gateway.feed.table.routes["support"].rollout_id is None)
    end()
    assert wait_for(lambda: scene.dropped(gateway.client, "step_over")) == 1
