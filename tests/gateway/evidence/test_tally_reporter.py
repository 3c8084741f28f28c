"""A gateway counts a rollout's requests and stores the counts in the registry."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from math import ceil

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.evidence.tally_reporter import TallyReporter
from gateway.routing.routing import Evidence
from gateway.telemetry.metrics import GatewayMetrics
from registry.rollouts.rollout import Rollout, RolloutPlan, weighted
from registry.rollouts.rollout_state import RolloutState
from registry.rollouts.tally import BUCKET_GROWTH, ErrorKind, Side, Tally, bucket_of, quantile, total
from tests.gateway.cancelled_flush import cancel_and_flush_again
from tests.gateway.rollouts.rollout_scene import CHAT, SETTINGS, RolloutScene, events, said, streamed
from tests.gateway.telemetry.scraped import without_process
from tests.stub_engine import Script, answer, by_model, drop, stream, stream_then_drop, stream_then_wait
from tests.waiting import wait_for

STREAM = {**CHAT, "stream": True}
HALF = 50


def key_for(side: Side) -> str:
    """A session that the hash puts on a side at half the weight."""
    return {Side.STABLE: "session-3", Side.CANARY: "session-0"}[side]


@pytest.fixture
def halved(scene: RolloutScene) -> Rollout:
    """Half of the conversations are the canary's."""
    return scene.start(HALF)


def test_each_side_is_counted_with_the_replica_that_answered(scene: RolloutScene, halved: Rollout) -> None:
    scene.add_replica(by_model(r1=streamed("yes", "sir"), r2=streamed("yes", finish="length")))
    client = scene.client()
    for side in (Side.STABLE, Side.CANARY, Side.CANARY):
        told = client.post("/v1/chat/completions", json=STREAM, headers={"x-session-id": key_for(side)})
        assert told.headers["x-lorry-revision"] == ("support@1" if side is Side.STABLE else "support@2")
    canary = scene.counted(halved, Side.CANARY, 2)
    stable = scene.counted(halved, Side.STABLE, 1)
    assert (canary.requests, canary.answers, canary.length_finishes, canary.output_tokens) == (2, 2, 2, 2)
    assert (stable.requests, stable.answers, stable.length_finishes, stable.output_tokens) == (1, 1, 0, 2)
    assert (sum(canary.ttft.values()), sum(canary.tpot.values()), sum(stable.tpot.values())) == (2, 0, 1)
    assert {(cell.step, cell.replica) for cell in scene.cells(halved)} == {(0, "r0")}
    metrics = without_process(client.get("/metrics").text)
    assert 'gateway_rollout_requests_total{adapter="support",side="canary"} 2.0' in metrics
    assert 'gateway_rollout_faults_total{adapter="support",kind="length_finishes",side="canary"} 2.0' in metrics


def test_an_operator_sees_what_was_counted(scene: RolloutScene, halved: Rollout) -> None:
    scene.add_replica(streamed("yes", "sir"))
    client = scene.client()
    client.post("/v1/chat/completions", json=STREAM, headers={"x-session-id": key_for(Side.CANARY)})
    counted = scene.counted(halved, Side.CANARY, 1)
    (entry,) = client.get(f"/admin/rollouts/{halved.id}/observations").json()["data"]
    about = {"step": 0, "side": "canary", "replica": "r0", "requests": 1, "failures": 0, "win_rate": None}
    assert entry == entry | about
    assert entry["ttft_p95_s"] == entry["ttft_p50_s"] == quantile(counted.ttft, 0.5)
    assert client.get("/admin/rollouts/ro-none/observations").status_code == 404


@given(st.lists(st.floats(1e-4, 1e3), min_size=1), st.floats(0.01, 1.0))
def test_a_quantile_is_known_within_a_bucket(seconds: list[float], share: float) -> None:
    exact = sorted(seconds)[ceil(share * len(seconds)) - 1]
    found = quantile(Counter(map(bucket_of, seconds)), share)
    assert found is not None
    assert exact * 0.999 <= found <= exact * BUCKET_GROWTH * 1.001
    assert quantile({}, share) is None


def test_the_bytes_of_a_counted_stream_are_the_engines(scene: RolloutScene, halved: Rollout) -> None:
    odd = [b": hello\r\n\r\n", *events("a", "b"), b"event: x\ndata: {}\n\n"]
    scene.add_replica(stream(*odd))
    assert scene.client().post("/v1/chat/completions", json=STREAM).content == b"".join(odd)


def test_what_an_answer_is_like_is_counted(scene: RolloutScene, halved: Rollout) -> None:
    message = {"content": "Sure!", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}
    choices = [
        {"message": message, "finish_reason": "stop"},
        {"message": {"content": ""}, "finish_reason": "length"},
    ]
    body = {"id": "chatcmpl-1", "choices": choices, "usage": {"completion_tokens": 8}}
    scene.add_replica(answer(200, orjson.dumps(body)))
    asked = {**CHAT, "n": 2, "response_format": {"type": "json_object"}}
    scene.client().post("/v1/chat/completions", json=asked, headers={"x-session-id": key_for(Side.CANARY)})
    tally = scene.counted(halved, Side.CANARY, 1)
    assert tally == Tally(
        requests=1,
        answers=2,
        length_finishes=1,
        empty_answers=1,
        json_asked=2,
        json_invalid=2,
        tool_calls=1,
        tool_calls_invalid=1,
        output_tokens=8,
        tpot=tally.tpot,
    )


@pytest.mark.parametrize(
    ("fault", "body", "kind"),
    [
        (answer(500, b"{}"), CHAT, ErrorKind.ENGINE_ERROR),
        (answer(404, b"{}"), CHAT, ErrorKind.ENGINE_ERROR),
        (stream(*events("a", finish=None), b'data: {"error": {"message": "no memory"}}\n\n'), STREAM, "engine_error"),
        (stream_then_drop(*events("a", finish=None)), STREAM, ErrorKind.BROKEN),
        (stream(*events("a", finish=None)), STREAM, ErrorKind.MALFORMED),
        (answer(200, b"<html>"), CHAT, ErrorKind.MALFORMED),
    ],
)
def test_a_failure_that_is_not_the_clients_is_counted_by_its_kind(
    scene: RolloutScene, halved: Rollout, fault: Script, body: dict[str, object], kind: str
) -> None:
    scene.add_replica(fault)
    scene.client().post("/v1/chat/completions", json=body, headers={"x-session-id": key_for(Side.CANARY)})
    assert scene.counted(halved, Side.CANARY, 1) == Tally(requests=1, errors={kind: 1})


def test_a_fault_of_the_client_is_counted_nowhere_and_a_full_queue_against_nobody(
    scene: RolloutScene, halved: Rollout
) -> None:
    scene.add_replica(answer(400, b"{}"), answer(422, b"{}"), answer(429, b"{}"))
    client = scene.client()
    statuses = [client.post("/v1/chat/completions", json=CHAT).status_code for _ in range(3)]
    assert statuses == [400, 422, 429]
    side = Side.CANARY if scene.engines[0].bodies[0].count(b"support@2") else Side.STABLE
    tally = scene.counted(halved, side, 1)
    assert (tally, tally.failures) == (Tally(errors={"overloaded": 1}), 0)


def test_a_failed_attempt_is_noted_for_its_replica_and_the_answer_for_the_other(
    scene: RolloutScene, halved: Rollout
) -> None:
    scene.add_replica(said("yes"))
    scene.add_replica(drop)  # the one that this conversation belongs to
    told = scene.client().post("/v1/chat/completions", json=CHAT, headers={"x-session-id": key_for(Side.CANARY)})
    assert told.status_code == 200
    scene.counted(halved, Side.CANARY, 2)
    by_replica = {cell.replica: tally for cell, tally in scene.cells(halved).items()}
    assert by_replica["r1"] == Tally(errors={"retried": 1})
    assert (by_replica["r0"].requests, by_replica["r0"].failures) == (1, 0)


def test_a_request_that_no_replica_answers_is_a_failure_once(scene: RolloutScene, halved: Rollout) -> None:
    scene.add_replica(drop)
    client = scene.client(SETTINGS.model_copy(update={"replica_wait_s": 0.2}))
    told = client.post("/v1/chat/completions", json=CHAT, headers={"x-session-id": key_for(Side.CANARY)})
    assert told.status_code == 503
    tally = scene.counted(halved, Side.CANARY, 2)
    assert (tally, tally.failures) == (Tally(requests=1, errors={"retried": 1, "unavailable": 1}), 1)


def test_what_the_caller_chose_is_no_evidence(scene: RolloutScene, halved: Rollout) -> None:
    scene.add_replica(said("yes"))
    client = scene.client()
    scene.registry.forced_sides.put("support", "tester", Side.CANARY, "ann")
    client.post("/v1/chat/completions", json={**CHAT, "model": "support@2"})
    client.post("/v1/chat/completions", json={**CHAT, "model": "tiny"})
    client.post("/v1/chat/completions", json=CHAT, headers={"x-lorry-side": "canary"})
    client.post("/v1/chat/completions", json=CHAT, headers={"x-lorry-side": "stable"})
    client.post("/v1/chat/completions", json=CHAT, headers={"x-session-id": key_for(Side.CANARY)})
    assert scene.counted(halved, Side.CANARY, 1).requests == 1
    assert [cell.side for cell in scene.cells(halved)] == [Side.CANARY]


def test_nothing_is_counted_before_the_canary_takes_traffic_or_after_an_abort(scene: RolloutScene) -> None:
    scene.add_replica(said("yes"))
    rollout = scene.start(HALF, to=None)
    client = scene.client()
    client.post("/v1/chat/completions", json=CHAT)
    scene.end(client)
    scene.registry.rollouts.move(rollout.id, rollout.state, RolloutState.ABORTED, reason="test")
    client = scene.client()
    client.post("/v1/chat/completions", json=CHAT)
    scene.end(client)
    assert scene.cells(rollout) == {}


def test_after_the_promotion_all_answers_are_the_canarys_until_the_window_is_over(
    scene: RolloutScene, advance: Callable[[float], None]
) -> None:
    scene.add_replica(said("yes"))
    rollout = scene.start(HALF, to=RolloutState.PROMOTED)
    client = scene.client()
    for side in Side.STABLE, Side.CANARY:
        client.post("/v1/chat/completions", json=CHAT, headers={"x-session-id": key_for(side)})
    assert scene.counted(rollout, Side.CANARY, 2).requests == 2
    assert {(cell.step, cell.side) for cell in scene.cells(rollout)} == {(2, Side.CANARY)}
    advance(SETTINGS.rollback_window_s)
    late = scene.client()
    late.post("/v1/chat/completions", json=CHAT)
    scene.end(late)
    assert scene.counted(rollout, Side.CANARY, 2).requests == 2


def test_a_pending_rollout_leaves_the_watch_over_the_last_promotion_alone(scene: RolloutScene) -> None:
    scene.add_replica(said("yes"))
    promoted = scene.start(HALF, to=RolloutState.PROMOTED)
    scene.registry.rollouts.start("support", 1, RolloutPlan(steps=weighted(HALF, 100)), "ann")
    scene.client().post("/v1/chat/completions", json=CHAT)
    assert scene.counted(promoted, Side.CANARY, 1).requests == 1


def test_what_was_counted_while_the_registry_was_away_is_told_when_it_is_back(
    scene: RolloutScene, halved: Rollout
) -> None:
    scene.add_replica(said("yes"))
    client = scene.client()
    rename = "ALTER TABLE {} RENAME TO {}".format
    with scene.registry.transactions.write() as tx:
        tx.exec_driver_sql(rename("observations", "away"))
    for _ in range(3):
        told = client.post("/v1/chat/completions", json=CHAT, headers={"x-session-id": key_for(Side.CANARY)})
        assert told.status_code == 200
    failures = "gateway_observation_flush_failures_total 0.0"
    wait_for(lambda: failures not in without_process(client.get("/metrics").text))
    with scene.registry.transactions.write() as tx:
        tx.exec_driver_sql(rename("away", "observations"))
    assert scene.counted(halved, Side.CANARY, 3).requests == 3
    assert client.post("/v1/feedback", json={"completion_id": "chatcmpl-1", "score": 1.0}).status_code == 200


def test_no_request_waits_for_a_registry_that_somebody_holds(scene: RolloutScene, halved: Rollout) -> None:
    scene.add_replica(said("yes"))
    client = scene.client()
    with scene.registry.transactions.write():
        for _ in range(3):
            told = client.post("/v1/chat/completions", json=CHAT, headers={"x-session-id": key_for(Side.CANARY)})
            assert told.status_code == 200
        assert scene.cells(halved) == {}
    assert scene.counted(halved, Side.CANARY, 3).requests == 3


def test_what_was_counted_last_is_told_before_the_gateway_ends(scene: RolloutScene, halved: Rollout) -> None:
    scene.add_replica(said("yes"))
    client = scene.client(SETTINGS.model_copy(update={"observe_flush_s": 3600.0}))
    client.post("/v1/chat/completions", json=CHAT)
    assert scene.cells(halved) == {}
    scene.end(client)
    assert total(scene.cells(halved).values()).requests == 1


def test_two_gateways_are_added_up_also_after_a_restart(scene: RolloutScene, halved: Rollout) -> None:
    scene.add_replica(said("yes"))
    first, second = scene.client(), scene.client()
    for client in (first, second, first):
        client.post("/v1/chat/completions", json=CHAT, headers={"x-session-id": key_for(Side.CANARY)})
    scene.end(first)
    scene.client().post("/v1/chat/completions", json=CHAT, headers={"x-session-id": key_for(Side.CANARY)})
    assert scene.counted(halved, Side.CANARY, 4).requests == 4


CELL = Evidence(adapter="support", rollout_id="ro-1", step=0, side=Side.CANARY)


def test_a_rollout_that_is_counted_again_after_it_was_forgotten_loses_nothing(scene: RolloutScene) -> None:
    counting = TallyReporter(scene.registry, GatewayMetrics().rollouts, SETTINGS)

    async def count(watched: set[str]) -> None:
        counting.add(CELL, "r0", Tally(requests=1))
        counting.forget_all_but(watched)
        await counting.flush()
        counting.forget_all_but(watched)

    for watched in ({"ro-1"}, set(), {"ro-1"}, {"ro-1"}):
        asyncio.run(count(watched))
    assert total(scene.registry.tallies.of_rollout("ro-1").values()).requests == 4


def test_a_flush_that_is_cancelled_before_its_thread_begins_loses_no_count(scene: RolloutScene) -> None:
    counting = TallyReporter(scene.registry, GatewayMetrics().rollouts, SETTINGS)
    counting.add(CELL, "r0", Tally(requests=1))
    asyncio.run(cancel_and_flush_again(counting.flush))
    assert total(scene.registry.tallies.of_rollout("ro-1").values()).requests == 1


@pytest.mark.parametrize(("sent", "requests"), [(events("a", "b", finish=None), 0), (events("a", "b")[:-1], 1)])
def test_a_client_that_leaves_is_counted_only_if_it_has_the_whole_answer(
    scene: RolloutScene, sent: list[bytes], requests: int
) -> None:
    scene.add_replica(stream_then_wait(*sent))
    rollout = scene.start(HALF)
    served = scene.serve()
    headers = {"x-session-id": key_for(Side.CANARY)}
    with served.client.stream("POST", "/v1/chat/completions", json=STREAM, headers=headers) as told:
        got, chunks = b"", told.iter_raw()
        while got != b"".join(sent):
            got += next(chunks)
        assert len(served.gateway.edge.under_way) == 1
    wait_for(lambda: not served.gateway.edge.under_way)
    scene.end(served.client)
    assert total(scene.registry.tallies.of_rollout(rollout.id).values()).requests == requests
