"""Gateways, registry, judge and controller together abort the right canary, for the right reason, in time."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from gateway.rollouts.controller import begin_if_loaded, reconcile
from gateway.settings import GatewaySettings
from registry.rollouts.guardrails import guardrails_from
from registry.rollouts.rollout import Rollout, RolloutPlan, weighted
from registry.rollouts.rollout_state import RolloutState
from tests.clock import Clock
from tests.gateway.rollouts.rollout_scene import CHAT, RolloutScene, events, said, streamed
from tests.stub_engine import Script, StubHandler, by_model, stream_then_drop

pytestmark = pytest.mark.long

GATEWAYS = 4
PATIENCE_S = 60.0
KNOBS = GatewaySettings(heartbeat_timeout_s=1e12, eject_s=0.001, observe_flush_s=0.25)
# How long this machine takes for an answer is not what these engines are about.
GUARDRAILS = guardrails_from({"ttft_p95": False, "tpot_p95": False, "min_samples": 60})
PLAN = RolloutPlan(steps=weighted(50, 100), guardrails=GUARDRAILS)
STREAM = {**CHAT, "stream": True}
WANTS_JSON = {**CHAT, "response_format": {"type": "json_object"}}


class Traffic:
    """Conversations at four gateways in turn, each request a new one, with a controller that looks in between."""

    def __init__(self, scene: RolloutScene, clock: Clock, body: dict[str, Any]) -> None:
        self.revisions: list[str] = []
        """The revisions of the answers; empty where nothing answered."""
        self._registry, self._clock, self._body = scene.registry, clock, body
        self._gateways = [scene.serve(KNOBS) for _ in range(GATEWAYS)]
        self._looked_at = 0.0

    def have_gateways_read_the_end(self) -> bool:
        """Whether no gateway has the rollout among its routes any more."""
        return all(each.gateway.feed.table.routes["support"].rollout_id is None for each in self._gateways)

    def until(self, came: Callable[[], bool]) -> None:
        """Go on until it *came* about, at most a minute."""
        deadline = time.monotonic() + PATIENCE_S
        while not came():
            assert time.monotonic() < deadline, "it did not come about in time"
            gateway = self._gateways[len(self.revisions) % GATEWAYS]
            session = {"x-session-id": f"conversation {len(self.revisions)}"}
            told = gateway.client.post("/v1/chat/completions", json=self._body, headers=session)
            self.revisions.append(told.headers.get("x-lorry-revision", ""))
            if time.monotonic() - self._looked_at >= KNOBS.reconcile_s:
                self._clock.at = time.time()
                reconcile(self._registry, KNOBS, self._clock.at)
                self._looked_at = time.monotonic()


def every_other(script: Script, other: Script) -> Script:
    """Answer by one script, then by the other, and so on."""
    numbers = count()

    def alternate(handler: StubHandler) -> None:
        (script if next(numbers) % 2 else other)(handler)

    return alternate


BREAKS = stream_then_drop(*events("ye", finish=None))


def end_of(scene: RolloutScene, clock: Clock, body: dict[str, Any]) -> tuple[Rollout, Traffic]:
    """The rollout once it has ended by itself under traffic."""
    clock.at = time.time()
    rollout = begin_if_loaded(scene.registry, scene.registry.rollouts.start("support", 2, PLAN, "ann"))
    assert rollout.state is RolloutState.PROGRESSING
    traffic = Traffic(scene, clock, body)
    traffic.until(lambda: scene.registry.rollouts.open_for("support") is None)
    return scene.registry.rollouts.get(rollout.id), traffic


@pytest.mark.parametrize(
    ("canary", "guardrail"),
    [
        (every_other(BREAKS, streamed("yes")), "error_rate"),
        (said(""), "empty_answers"),
        (said("on and on", finish="length"), "length_finishes"),
        (said('{"broken": '), "invalid_json"),
    ],
)
def test_a_bad_canary_is_aborted_by_the_right_guardrail_and_answers_nobody_once_gateways_know(
    scene: RolloutScene, clock: Clock, canary: Script, guardrail: str
) -> None:
    bodies: dict[str, dict[str, Any]] = {"error_rate": STREAM, "invalid_json": WANTS_JSON}
    body = bodies.get(guardrail, CHAT)
    stable = streamed("yes") if body is STREAM else said('{"fine": true}')
    scene.add_replica(by_model(r1=stable, r2=canary))
    ended, traffic = end_of(scene, clock, body)
    assert (ended.state, ended.reason) == (RolloutState.ABORTED, guardrail)
    traffic.until(traffic.have_gateways_read_the_end)
    known = len(traffic.revisions)
    traffic.until(lambda: len(traffic.revisions) == known + 10 * GATEWAYS)
    assert "support@2" in traffic.revisions[:known]
    assert set(traffic.revisions[known:]) == {"support@1"}
    assert scene.registry.adapters.get("support").stable == 1


def test_a_good_canary_is_promoted_under_traffic(scene: RolloutScene, clock: Clock) -> None:
    scene.add_replica(said("yes"))
    ended, *_ = end_of(scene, clock, CHAT)
    assert (ended.state, ended.reason) == (RolloutState.PROMOTED, "no_violation")


def test_a_canary_is_not_blamed_for_what_ails_stable_too(scene: RolloutScene, clock: Clock) -> None:
    ailing = [every_other(BREAKS, streamed("yes")) for _ in range(2)]
    scene.add_replica(by_model(r1=ailing[0], r2=ailing[1]))
    ended, *_ = end_of(scene, clock, STREAM)
    assert ended.state is RolloutState.PROMOTED
