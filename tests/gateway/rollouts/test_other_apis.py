"""Requests of the Responses and Messages APIs are split, counted and judged as chats are."""

from __future__ import annotations

import time
from typing import Any, Final

import orjson
import pytest

from gateway.rollouts.controller import begin_if_loaded, reconcile
from gateway.settings import GatewaySettings
from registry.rollouts.guardrails import guardrails_from
from registry.rollouts.rollout import Rollout, RolloutPlan, weighted
from registry.rollouts.rollout_state import RolloutState
from registry.rollouts.tally import Side
from tests.clock import Clock
from tests.gateway.rollouts.rollout_scene import RolloutScene, events
from tests.stub_engine import Script, StubHandler, answer, by_model, stream, stream_then_drop
from tests.waiting import wait_for

KNOBS: Final = GatewaySettings(heartbeat_timeout_s=1e12, route_refresh_s=0.05, observe_flush_s=0.05, eject_s=0.001)
# How long this machine takes for an answer is not what these engines are about.
GUARDRAILS: Final = guardrails_from({"ttft_p95": False, "tpot_p95": False, "min_samples": 20})
BODIES: Final[dict[str, dict[str, Any]]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8},
}
EITHER: Final = pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
EACH: Final = pytest.mark.parametrize("path", BODIES)


def in_either_way(whole: Script, in_pieces: Script) -> Script:
    """A script for requests that are streamed, and for those that are not."""

    def either(handler: StubHandler) -> None:
        (in_pieces if b'"stream":true' in handler.body else whole)(handler)

    return either


USAGE: Final = {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7}
CHOICE: Final = {"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
ANSWER: Final = {"id": "chatcmpl-1", "model": "support", "usage": USAGE}
SAID: Final = answer(200, orjson.dumps(ANSWER | {"choices": [CHOICE]}))
COUNTS: Final = b"data: " + orjson.dumps(ANSWER | {"choices": []}) + b"\n\n"
*_BEGUN, _END = [each.replace(b'"id":', b'"model":"support","id":') for each in events("y", "es")]
BREAKS: Final = stream_then_drop(*_BEGUN[:2])
GOOD: Final = in_either_way(SAID, stream(*_BEGUN, COUNTS, _END))


def judged(scene: RolloutScene, canary: Script) -> Rollout:
    """A rollout at half of the conversations, before a replica whose canary answers by a script."""
    scene.add_replica(by_model(r1=GOOD, r2=canary))
    plan = RolloutPlan(steps=weighted(50, 100), guardrails=GUARDRAILS)
    return begin_if_loaded(scene.registry, scene.registry.rollouts.start("support", 2, plan, "ann"))


def asked(scene: RolloutScene, path: str, *, is_streamed: bool, requests: int) -> list[str]:
    """The revisions that answered so many conversations, each of one request."""
    client = scene.client(KNOBS)
    body = BODIES[path] | {"model": "support", "stream": is_streamed}
    sessions = ({"x-session-id": f"conversation {each}"} for each in range(requests))
    return [client.post(path, json=body, headers=each).headers.get("x-lorry-revision", "") for each in sessions]


@EACH
@EITHER
def test_both_sides_answer_and_are_counted(scene: RolloutScene, path: str, is_streamed: bool) -> None:
    rollout = judged(scene, GOOD)
    revisions = asked(scene, path, is_streamed=is_streamed, requests=16)
    assert set(revisions) == {"support@1", "support@2"}
    for side, revision in ((Side.STABLE, "support@1"), (Side.CANARY, "support@2")):
        counted = scene.counted(rollout, side, revisions.count(revision))
        requests = revisions.count(revision)
        assert (counted.requests, counted.answers, counted.output_tokens, counted.errors) == (
            *(requests, requests, 3 * requests),
            {},
        )


@pytest.mark.long
@EACH
@EITHER
def test_a_canary_that_fails_them_is_aborted(scene: RolloutScene, clock: Clock, path: str, is_streamed: bool) -> None:
    rollout = judged(scene, in_either_way(answer(500, b'{"error": {"message": "no"}}'), BREAKS))
    revisions = asked(scene, path, is_streamed=is_streamed, requests=60)
    scene.counted(rollout, Side.STABLE, revisions.count("support@1"))
    counted = scene.counted(rollout, Side.CANARY, revisions.count("support@2"))
    assert (counted.answers, counted.failures) == (0, counted.requests)
    clock.at = time.time()

    def is_over() -> bool:
        clock.at += KNOBS.reconcile_s
        reconcile(scene.registry, KNOBS, clock.at)
        return scene.registry.rollouts.get(rollout.id).state.is_terminal

    wait_for(is_over)
    ended = scene.registry.rollouts.get(rollout.id)
    assert (ended.state, ended.reason) == (RolloutState.ABORTED, "error_rate")
    assert scene.registry.adapters.get("support").stable == 1
