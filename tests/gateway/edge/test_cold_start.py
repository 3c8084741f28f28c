"""A request for a pool without a replica waits in its queue, has it woken, and is answered or refused in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.liveness.sleeping_pools import SleepingPool
from registry.publishing.publish import publish
from registry.states import ReplicaState, SlotState
from registry.types import Base, RevisionDraft, Slot
from tests.gateway.replica_rows import replica_row
from tests.gateway.scripted_gateways import SETTINGS, ScriptedGateways
from tests.gateway.served import ServedGateway
from tests.stub_engine import StubEngine, answer
from tests.waiting import wait_for

NIGHT = SleepingPool(name="night", base="tiny", engine="transformers")
BODY = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def engine() -> Iterator[StubEngine]:
    stub = StubEngine(answer(200, b'{"choices": []}'))
    yield stub
    stub.close()


@pytest.fixture
def asleep(scripted: ScriptedGateways, sqlite_registry: Registry) -> Callable[..., ServedGateway]:
    """Serves a gateway with these settings, before a pool that sleeps."""
    sqlite_registry.sleeping_pools.enter(NIGHT)

    def serve(**settings: object) -> ServedGateway:
        return scripted.serve(settings=GatewaySettings.model_validate(SETTINGS.model_dump() | settings))

    return serve


def chat(gateway: ServedGateway, **fields: object) -> httpx2.Response:
    headers = fields.pop("headers", {})
    assert isinstance(headers, dict)
    return gateway.client.post("/v1/chat/completions", json=BODY | fields, headers=headers)


def awaited(registry: Registry) -> set[str]:
    return {use.served_name for use in registry.snapshot().uses if use.awaited_since is not None}


def wake(registry: Registry, engine: StubEngine, pool: str = "night", **fields: object) -> None:
    registry.replicas.report(replica_row(f"{pool}-1", pool=pool, url=engine.url, **fields))


def waiting(gateway: ServedGateway, count: int) -> None:
    wait_for(lambda: gateway.gateway.admission.waiting("night") == count)


def test_requests_wait_for_the_pool_that_they_wake_and_are_all_answered(
    asleep: Callable[..., ServedGateway], sqlite_registry: Registry, engine: StubEngine
) -> None:
    gateway = asleep()
    with ThreadPoolExecutor(4) as callers:
        told = [callers.submit(chat, gateway, stream=number == 0) for number in range(4)]
        waiting(gateway, 4)
        wait_for(lambda: awaited(sqlite_registry) == {"tiny"})
        assert engine.bodies == []
        wake(sqlite_registry, engine)
        assert [each.result(timeout=60).status_code for each in told] == [200] * 4
    lines = gateway.client.get("/metrics").text.splitlines()
    (cold,) = (line for line in lines if line.startswith("gateway_cold_start_seconds_count{"))
    assert cold.endswith(',outcome="served",pool="night"} 4.0')
    assert not any(line.startswith("gateway_queue_seconds_count{") for line in lines)


def test_an_adapter_is_awaited_by_the_name_of_its_revision(
    asleep: Callable[..., ServedGateway],
    sqlite_registry: Registry,
    engine: StubEngine,
    base: Base,
    make_adapter: Callable[..., Path],
) -> None:
    publish(sqlite_registry, make_adapter(1), RevisionDraft(adapter="support", base=base.name, owner="me"))
    sqlite_registry.adapters.set_first_stable("support", 1, "first_revision")
    gateway = asleep()
    assert {"support", "support@1", "tiny"} <= {each["id"] for each in gateway.client.get("/v1/models").json()["data"]}
    with ThreadPoolExecutor(1) as caller:
        told = caller.submit(chat, gateway, model="support")
        wait_for(lambda: awaited(sqlite_registry) == {"support@1"})
        wake(sqlite_registry, engine, slots=(Slot(served_name="support@1", state=SlotState.READY),))
        assert told.result(timeout=60).status_code == 200


def test_a_pool_that_does_not_wake_in_time_is_a_503_that_says_why_and_when_to_come_back(
    asleep: Callable[..., ServedGateway], sqlite_registry: Registry, engine: StubEngine
) -> None:
    wake(sqlite_registry, engine, state=ReplicaState.UNHEALTHY, message="no memory is left")
    gateway = asleep(cold_start_wait_s=0.1)
    told = chat(gateway, stream=True)
    assert (told.status_code, told.json()["error"]["code"]) == (503, "engine_unavailable")
    assert int(told.headers["retry-after"]) > 0
    assert "pool 'night' was asleep" in told.json()["error"]["message"]
    assert "night-1 is unhealthy (no memory is left)" in told.json()["error"]["message"]
    assert "gateway_cold_start_seconds_count" in gateway.client.get("/metrics").text


def test_the_deadline_of_a_request_ends_its_wait_too(asleep: Callable[..., ServedGateway]) -> None:
    told = chat(asleep(), headers={"x-request-timeout": "0.1"})
    assert (told.status_code, told.json()["error"]["code"]) == (504, "deadline_exceeded")


def test_those_who_wait_count_in_the_queue_of_their_pool(
    asleep: Callable[..., ServedGateway], sqlite_registry: Registry, engine: StubEngine
) -> None:
    gateway = asleep(queue_limit=4)  # of which one key has half
    with ThreadPoolExecutor(2) as callers:
        told = [callers.submit(chat, gateway) for _ in range(2)]
        waiting(gateway, 2)
        refused = chat(gateway)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
        assert "2 waiting" in refused.json()["error"]["message"]
        wake(sqlite_registry, engine)
        assert [each.result(timeout=60).status_code for each in told] == [200] * 2


def test_a_path_that_the_pool_does_not_offer_is_refused_once_that_is_known(
    asleep: Callable[..., ServedGateway], sqlite_registry: Registry, engine: StubEngine
) -> None:
    gateway = asleep()
    with ThreadPoolExecutor(1) as caller:
        told: Future[httpx2.Response] = caller.submit(
            gateway.client.post, "/v1/embeddings", json={"model": "tiny", "input": "hi"}
        )
        waiting(gateway, 1)
        wake(sqlite_registry, engine, paths=("/v1/chat/completions",))
        assert told.result(timeout=60).json()["error"]["code"] == "endpoint_not_offered"
    assert engine.bodies == []


def test_a_replica_of_another_pool_answers_those_who_wait_for_one_that_sleeps(
    asleep: Callable[..., ServedGateway], sqlite_registry: Registry, engine: StubEngine
) -> None:
    gateway = asleep()
    with ThreadPoolExecutor(1) as caller:
        told = caller.submit(chat, gateway)
        waiting(gateway, 1)
        wake(sqlite_registry, engine, pool="day")
        answered = told.result(timeout=60)
    assert (answered.status_code, answered.headers["x-lorry-replica"]) == (200, "day-1")
    waiting(gateway, 0)


def test_a_client_that_leaves_asks_for_nothing_more(asleep: Callable[..., ServedGateway]) -> None:
    gateway = asleep()
    with pytest.raises(httpx2.TimeoutException):
        gateway.client.post("/v1/chat/completions", json=BODY, timeout=0.2)
    waiting(gateway, 0)


def test_a_gateway_before_a_pool_that_sleeps_is_ready_and_shows_it_as_asleep(
    asleep: Callable[..., ServedGateway], sqlite_registry: Registry, engine: StubEngine
) -> None:
    client = asleep().client
    assert client.get("/readyz").status_code == 200
    assert client.get("/health").status_code == 200
    status = client.get("/admin/status").json()
    (pool,) = status["pools"]
    assert (pool["pool"], pool["base"], pool["asleep"], pool["replicas"]) == ("night", "tiny", True, 0)
    assert status["needs"] == []
    # A replica that came and went without ever being ready has changed no route.
    shown = 'base="tiny",engine="transformers",pool="night"}'
    wait_for(lambda: f"{shown} 1.0" in client.get("/metrics").text)
    wake(sqlite_registry, engine, state=ReplicaState.STARTING)
    wait_for(lambda: f"{shown} 0.0" in client.get("/metrics").text)
    sqlite_registry.replicas.mark_gone("night-1")
    wait_for(lambda: f"{shown} 1.0" in client.get("/metrics").text)
