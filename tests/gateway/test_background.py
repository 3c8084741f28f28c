"""The background loops of a gateway go on after any error, and its health reports those that do not."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from gateway.edge.edge import Edge
from gateway.keys.keyring import Keyring
from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.keys import KeyDraft, Scope
from registry.serving.serving_tables import replicas
from registry.types import Base
from tests.gateway.scripted_gateways import ScriptedGateways
from tests.gateway.served import ServedGateway
from tests.gateway.stage import report
from tests.stub_engine import answer
from tests.waiting import wait_for

QUICK = GatewaySettings(route_refresh_s=0.05, stale_after_s=0.5)
CHAT = {"model": "nobody", "messages": [{"role": "user", "content": "hi"}]}


def set_column(registry: Registry, column: sa.Column[Any], value: object) -> None:
    """Write what this Lorry cannot read: a newer one, or a person, may have done so."""
    mark = column.table.c.get("mark")
    with registry.transactions.write() as tx:
        tx.execute(sa.update(column.table).values({column: value} | ({} if mark is None else {mark: mark + 1})))


def test_rows_that_cannot_be_read_end_no_loop_and_hang_no_request(sqlite_registry: Registry, base: Base) -> None:
    sqlite_registry.bases.enter(base)
    report(sqlite_registry, "r1")
    with ServedGateway(QUICK, sqlite_registry) as served:
        client = served.client
        wait_for(lambda: client.get("/readyz").status_code == 200)
        set_column(sqlite_registry, replicas.c.state, "frozen")
        fails = ["the loop routes fails; the gateway's log has the error"]
        # On a busy machine the routes may for a moment be too old first.
        wait_for(lambda: client.get("/readyz").json().get("problems") == fails)
        told = client.get("/readyz")
        assert (told.status_code, told.json()["status"]) == (503, "failing")
        assert 'loop="routes"} 0.0' in client.get("/metrics").text
        # The name is unknown, so the request waits for a reading, which fails.
        began = time.monotonic()
        answer = client.post("/v1/chat/completions", json=CHAT)
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
        assert time.monotonic() - began < 60.0  # the deadline of the request is ten times that
        assert client.get("/healthz").status_code == 200
        set_column(sqlite_registry, replicas.c.state, "ready")
        wait_for(lambda: client.post("/v1/chat/completions", json=CHAT).status_code == 404)


def test_a_registry_that_is_away_for_long_fails_the_readiness_until_it_is_back(
    sqlite_registry: Registry, base: Base
) -> None:
    sqlite_registry.bases.enter(base)
    report(sqlite_registry, "r1")
    with ServedGateway(QUICK, sqlite_registry) as served:
        wait_for(lambda: served.client.get("/readyz").status_code == 200)
        set_table_aside(sqlite_registry, "table_changes", "aside")
        set_table_aside(sqlite_registry, "keys", "keys_aside")
        wait_for(lambda: len(served.client.get("/readyz").json()["problems"]) == 2)
        routes, keys = served.client.get("/readyz").json()["problems"]
        assert routes.startswith("the routes were read ")
        assert keys.startswith("the API keys were read ")
        set_table_aside(sqlite_registry, "aside", "table_changes")
        set_table_aside(sqlite_registry, "keys_aside", "keys")
        wait_for(lambda: served.client.get("/readyz").status_code == 200)


def set_table_aside(registry: Registry, name: str, to: str) -> None:
    with registry.transactions.read() as tx:
        tx.exec_driver_sql(f"ALTER TABLE {name} RENAME TO {to}")


def test_a_revoked_key_stops_while_the_use_of_keys_cannot_be_stored(sqlite_registry: Registry) -> None:
    admin = sqlite_registry.keys.create(KeyDraft(name="admin", scopes=frozenset(Scope)), "me")
    second = sqlite_registry.keys.create(KeyDraft(name="app", scopes=frozenset(Scope)), "me")

    async def story() -> None:
        keyring = Keyring(sqlite_registry, refresh_s=0.02, report_s=0.02, is_loopback=True)
        await keyring.refresh()
        keyring.caller_of(b"Bearer " + second.secret.encode(), 0.0)
        sqlite_registry.keys.revoke(second.key.id, "me")
        running = [asyncio.create_task(keyring.run()), asyncio.create_task(keyring.report_use())]
        with sqlite_registry.transactions.write():  # the report of the use waits for this transaction
            await asyncio.to_thread(wait_for, lambda: len(keyring.known) == 1)
        for loop in running:
            loop.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        assert keyring.known == {admin.key.id}

    asyncio.run(story())


class Checked:
    """A request whose check raises, or counts."""

    def __init__(self, *, fails: bool) -> None:
        self.fails = fails
        self.checks = 0

    def check(self, _: float) -> None:
        self.checks += 1
        if self.fails:
            raise KeyError("no such answer")

    def cut_off(self) -> None:
        """Do nothing."""


def test_an_error_in_one_request_keeps_no_other_from_its_deadline(
    sqlite_registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    with ServedGateway(QUICK, sqlite_registry) as served:
        edge: Edge = served.gateway.edge
        requests = [Checked(fails=number % 2 == 0) for number in range(6)]
        edge.under_way.update(requests)
        wait_for(lambda: all(request.checks >= 2 for request in requests if not request.fails))
        assert [request.checks for request in requests if request.fails] == [1, 1, 1]
        edge.under_way.clear()
    assert sum(record.exc_info is not None for record in caplog.records) == 3


def test_requests_that_need_a_thread_go_on_while_the_registry_blocks_many(
    sqlite_registry: Registry, scripted: ScriptedGateways
) -> None:
    served = scripted.serve([answer(200, b"{}")])
    packed = {"content-encoding": "gzip", "content-type": "application/json"}
    body = gzip.compress(json.dumps(CHAT | {"model": "tiny"}).encode())
    answers: list[httpx2.Response] = []

    def make_key(number: int) -> None:
        answers.append(served.client.post("/admin/keys", json={"name": f"k{number}"}))

    waiting = [threading.Thread(target=make_key, args=(number,)) for number in range(8)]
    with sqlite_registry.transactions.write():  # no other write begins before this one ends
        for thread in waiting:
            thread.start()
        wait_for(lambda: served.requests_beside == len(waiting))
        assert served.client.post("/v1/chat/completions", content=body, headers=packed).status_code == 200
        assert not answers
    for thread in waiting:
        thread.join()
    assert len(answers) == len(waiting)
