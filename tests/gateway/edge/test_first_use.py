"""A revision that no replica has is loaded on its first use, once, and the least recently used one makes room."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event

import httpx2
import pytest

from engines.replica.report import Phase, ReplicaReport, SlotPhase, SlotReport
from gateway.pools.journal import RegistryJournal, ReplicaIdentity
from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.publishing.publish import publish
from registry.types import Base, RevisionDraft
from tests.clock import Clock
from tests.gateway.served import ServedGateway
from tests.stub_engine import StubEngine, StubHandler, answer
from tests.waiting import wait_for

IDENTITY = ReplicaIdentity(
    id="r1",
    pool="default",
    base="tiny",
    engine="transformers",
    capacity=2,
    max_rank=64,
    room=16,
    rollback_window_s=3600.0,
    started_at=0.0,
)
PATHS = frozenset({"/v1/chat/completions"})
SETTINGS = GatewaySettings(replica_wait_s=20.0, route_refresh_s=0.05, use_report_s=0.05)


@pytest.fixture
def engine() -> Iterator[StubEngine]:
    stub = StubEngine(answer(200, b'{"choices": []}'))
    yield stub
    stub.close()


@pytest.fixture
def http(
    sqlite_registry: Registry, base: Base, make_adapter: Callable[..., Path], clock: Clock
) -> Iterator[httpx2.Client]:
    """A gateway; `support@1` is stable, `support@2` to `support@4` can be called by pinned name."""
    sqlite_registry.bases.enter(base)
    for seed in range(1, 5):
        clock.advance(1.0)
        publish(sqlite_registry, make_adapter(seed), RevisionDraft(adapter="support", base=base.name, owner="me"))
    sqlite_registry.adapters.set_first_stable("support", 1, "first_revision")
    with ServedGateway(SETTINGS, sqlite_registry) as gateway:
        yield gateway.client


@pytest.fixture
def journal(sqlite_registry: Registry) -> RegistryJournal:
    return RegistryJournal(sqlite_registry, IDENTITY)


def report(journal: RegistryJournal, engine: StubEngine, *ready: str) -> None:
    slots = dict.fromkeys(ready, SlotReport(phase=SlotPhase.READY))
    journal.report(ReplicaReport(url=engine.url, phase=Phase.READY, paths=PATHS, slots=slots, load=0, message=""))


def chat(http: httpx2.Client, model: str) -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    return int(http.post("/v1/chat/completions", json=body).status_code)


def test_requests_for_a_revision_that_is_nowhere_share_one_load(
    http: httpx2.Client, engine: StubEngine, journal: RegistryJournal, clock: Clock
) -> None:
    report(journal, engine, "support@1", "support@4")
    assert set(journal.wanted()) == {"support@1", "support@4"}
    clock.advance(1.0)
    with ThreadPoolExecutor(4) as callers:
        answers = [callers.submit(chat, http, "support@2") for _ in range(4)]
        wait_for(lambda: set(journal.wanted()) == {"support@1", "support@2"})
        assert engine.bodies == []
        report(journal, engine, "support@1", "support@2")
        assert [told.result(timeout=60) for told in answers] == [200] * 4
    assert len(engine.bodies) == 4


def test_what_is_used_stays_while_what_is_not_makes_room(
    http: httpx2.Client, engine: StubEngine, journal: RegistryJournal, clock: Clock, sqlite_registry: Registry
) -> None:
    identity = replace(IDENTITY, id="r2", capacity=3)
    roomy = RegistryJournal(sqlite_registry, identity)
    report(roomy, engine, "support@1", "support@3", "support@4")
    assert list(roomy.wanted()) == ["support@1", "support@4", "support@3"]
    clock.advance(1.0)
    assert chat(http, "support@3") == 200
    wait_for(lambda: "support@3" in [use.served_name for use in sqlite_registry.snapshot().uses])
    # A replica reads placement anew after 10 s, as a request alone is no change that makes it do so before.
    clock.advance(11.0)
    wait_for(lambda: list(roomy.wanted()) == ["support@1", "support@3", "support@4"])
    clock.advance(1.0)
    with ThreadPoolExecutor(1) as caller:
        told = caller.submit(chat, http, "support@2")
        wait_for(lambda: list(roomy.wanted()) == ["support@2", "support@1", "support@3"])
        report(roomy, engine, "support@1", "support@2", "support@3")
        assert told.result(timeout=60) == 200


@pytest.mark.long
def test_traffic_is_reported_by_how_many_requests_there_are_at_a_time(
    http: httpx2.Client, engine: StubEngine, journal: RegistryJournal, sqlite_registry: Registry
) -> None:
    ended = Event()
    whole = answer(200, b'{"choices": []}')

    def held(handler: StubHandler) -> None:
        ended.wait(60)
        whole(handler)

    engine.scripts = [held]
    report(journal, engine, "support@1", "support@2")
    with ThreadPoolExecutor(7) as callers:
        answers = [callers.submit(chat, http, model) for model in ["support"] * 6 + ["support@2"]]
        try:
            wait_for(lambda: averages(sqlite_registry).get("support@2", 0.0) > 0.02)
            average = averages(sqlite_registry)
        finally:
            ended.set()
        assert [each.result(timeout=60) for each in answers] == [200] * 7
    assert average["support@1"] == pytest.approx(6 * average["support@2"], rel=0.5)


def averages(registry: Registry) -> dict[str, float]:
    """Return how many requests at a time asked for each served name on average."""
    return {use.served_name: use.in_flight for use in registry.snapshot().uses}


def test_a_name_is_answered_though_all_places_are_taken_by_others_that_are_asked_for(
    http: httpx2.Client,
    engine: StubEngine,
    sqlite_registry: Registry,
    make_adapter: Callable[..., Path],
) -> None:
    for number, name in enumerate(("one", "two")):
        publish(sqlite_registry, make_adapter(number), RevisionDraft(adapter=name, base="tiny", owner="me"))
        sqlite_registry.adapters.set_first_stable(name, 1, "first_revision")
    full = RegistryJournal(sqlite_registry, replace(IDENTITY, id="r3"))
    report(full, engine, "one@1", "two@1")
    assert [chat(http, name) for name in ("one", "two")] == [200, 200]
    wait_for(lambda: {use.served_name for use in sqlite_registry.snapshot().uses} == {"one@1", "two@1"})
    assert set(full.wanted()) == {"one@1", "two@1"}
    alias = "ft:tiny:lorry:one:12345678"
    draft = RevisionDraft(adapter="one", base="tiny", owner="me", alias=alias)
    publish(sqlite_registry, make_adapter(7), draft)
    with ThreadPoolExecutor(1) as caller:
        told = caller.submit(chat, http, alias)
        wait_for(lambda: "one@2" in full.wanted())
        (other,) = set(full.wanted()) - {"one@2"}
        report(full, engine, "one@2", other)
        assert told.result(timeout=60) == 200


def test_a_revision_that_a_replica_refuses_is_not_waited_for_long(
    sqlite_registry: Registry, engine: StubEngine, base: Base, make_adapter: Callable[..., Path]
) -> None:
    sqlite_registry.bases.enter(base)
    publish(sqlite_registry, make_adapter(1), RevisionDraft(adapter="support", base=base.name, owner="me"))
    refused = SlotReport(phase=SlotPhase.FAILED, reason="fingerprint_mismatch", message="answers unlike the trainer")
    journal = RegistryJournal(sqlite_registry, IDENTITY)
    journal.report(
        ReplicaReport(url=engine.url, phase=Phase.READY, paths=PATHS, slots={"support@1": refused}, load=0, message="")
    )
    with ServedGateway(SETTINGS.model_copy(update={"replica_wait_s": 0.2}), sqlite_registry) as gateway:
        body = {"model": "support@1", "messages": [{"role": "user", "content": "hi"}]}
        told = gateway.client.post("/v1/chat/completions", json=body)
    assert (told.status_code, told.json()["error"]["code"]) == (503, "engine_unavailable")
    assert "r1: answers unlike the trainer" in told.json()["error"]["message"]
