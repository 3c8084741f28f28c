"""A database fails over: PostgreSQL ends, comes back and is read-only, while clients chat in an open rollout.

The tests share one `lorry up` and run in their order; the clients of `crowd` chat through all of them.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from registry.database import Registry, open_registry
from registry.settings import RegistrySettings
from tests.engines.random_adapter import write_adapter
from tests.postgres_server import PostgresServer, postgres_server
from tests.trainer.tiny_base import save_base, write_chats
from tests.up_process import Up
from tests.waiting import wait_for

pytestmark = [pytest.mark.scenario, pytest.mark.postgres]

CONFIG = """
[registry]
url = "{url}"

[gateway]
heartbeat_timeout_s = 3.0
stale_after_s = 2.0

[[engines.pools]]
name = "small"
base = "{base}"
engine = {{ max_context = 256, max_batch = 8 }}
"""
BASE = "tiny"
CLIENTS = 3
OUTAGE_S = 6.0
"""Longer than a replica may be silent, and than routes may be old."""
BACK_S = 60.0
"""How long after the database is back a revoked key may pass: gateways connect and read anew, on a busy machine."""
EPOCHS = 50


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


@pytest.fixture(scope="module")
def base_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model with random weights."""
    folder: Path = tmp_path_factory.mktemp("base") / BASE
    save_base(folder)
    return folder


@pytest.fixture(scope="module")
def registry_url(server: PostgresServer) -> str:
    return server.url.render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def settings(registry_url: str, base_path: Path) -> str:
    return CONFIG.format(url=registry_url, base=base_path)


@pytest.fixture(scope="module")
def registry(up: Up, home: Path, registry_url: str) -> Iterator[Registry]:
    """The registry as another Lorry on the same database has it."""
    opened = open_registry(RegistrySettings(url=registry_url, artifacts=home / "artifacts"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def secrets(up: Up) -> dict[str, str]:
    """API keys by name: `root`, `app` and `doomed`."""
    made = {}
    for name in ("root", "app", "doomed"):
        scopes = () if name == "root" else ("--scopes", "inference")
        made[name] = json.loads(up.lorry("keys", "create", "--name", name, *scopes, "--json"))["key"]
        up.api_key = made["root"]
    return made


@pytest.fixture(scope="module")
def rollout(up: Up, secrets: dict[str, str], base_path: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Id of an open rollout of `support@2` at half of the conversations, which a person moves."""
    for seed in (1, 2):
        folder = write_adapter(tmp_path_factory.mktemp("made") / f"s{seed}", base_path, seed, rank=4, strength=0.2)
        up.lorry("adapters", "publish", str(folder), "--name", "support", "--base", BASE)
    wait_for(lambda: '"stable": 1' in up.lorry("adapters", "show", "support", "--json"), BACK_S)
    told = json.loads(up.lorry("rollout", "start", "support@2", "--steps", "50,100", "--no-judge", "--json"))
    assert told["state"] == "progressing"
    return str(told["id"])


class Crowd:
    """Clients that chat with the adapter, each answer on a connection that stays open."""

    def __init__(self, up: Up, key: str) -> None:
        self.answers = 0
        self.failures: list[str] = []
        self.slowest_s = 0.0
        self._url = f"{up.url}/v1/chat/completions"
        self._key = key
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._chat, args=(number,)) for number in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _chat(self, number: int) -> None:
        headers = {"authorization": f"Bearer {self._key}"}
        with httpx2.Client(headers=headers, timeout=60.0, trust_env=False) as client:
            asked = 0
            while not self._stop.is_set():
                asked += 1
                body = chat("support", f"client {number}, question {asked}")
                began = time.monotonic()
                try:
                    told = client.post(self._url, json=body)
                except httpx2.HTTPError as exc:
                    self.failures.append(repr(exc))
                    continue
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)
                if told.status_code == 200:
                    self.answers += 1
                else:
                    self.failures.append(told.text)

    def stop(self) -> None:
        """Wait until every client has had its last answer."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture(scope="module")
def crowd(up: Up, secrets: dict[str, str], rollout: str, registry: Registry) -> Iterator[Crowd]:
    made = Crowd(up, secrets["app"])
    wait_for(lambda: made.answers > 20)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def job(up: Up, crowd: Crowd, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Id of a fine-tuning job that is at work through all outages."""
    file = write_chats(tmp_path_factory.mktemp("rows") / "rows.jsonl")
    hyperparameters = ("--set", f"n_epochs={EPOCHS}", "--set", "batch_size=1")
    words = ("train", "sft", "--data", str(file), "--name", "learner", "--model", BASE, *hyperparameters, "--json")
    return str(json.loads(up.lorry(*words))["id"])


def chat(model: str, text: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 4}


def status_of(up: Up, key: str) -> int:
    headers = {"authorization": f"Bearer {key}"}
    url = f"{up.url}/v1/chat/completions"
    return int(httpx2.post(url, json=chat(BASE, "hi"), headers=headers, trust_env=False).status_code)


def readiness(up: Up) -> httpx2.Response:
    return httpx2.get(f"{up.url}/readyz", trust_env=False)


def replicas_gone(registry: Registry) -> list[str]:
    return [replica.message for replica in registry.replicas.list() if replica.state == "gone"]


def test_clients_are_answered_while_the_database_is_away(
    up: Up, server: PostgresServer, crowd: Crowd, job: str
) -> None:
    server.stop()
    seen, began = crowd.answers, time.monotonic()
    # One of two gateways answers, each by its own readings.
    (told,) = wait_for(lambda: [told for told in [readiness(up)] if told.status_code == 503])
    assert told.json()["status"] == "failing"
    refused = httpx2.get(f"{up.url}/admin/rollouts", headers={"authorization": f"Bearer {up.api_key}"}, trust_env=False)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "registry_unavailable")
    wait_for(lambda: time.monotonic() - began > OUTAGE_S)
    wait_for(lambda: crowd.answers > seen + 20)
    assert crowd.failures == []


def test_a_key_that_is_revoked_when_the_database_is_back_stops(
    up: Up, server: PostgresServer, registry: Registry, secrets: dict[str, str], crowd: Crowd
) -> None:
    assert status_of(up, secrets["doomed"]) == 200  # by the last keys that were read
    server.start()
    back = time.monotonic()
    registry.keys.revoke("doomed", "me")
    wait_for(lambda: {status_of(up, secrets["doomed"]) for _ in range(10)} == {401}, BACK_S)
    print(f"the key passed for {time.monotonic() - back:.2f} s after the database was back")  # noqa: T201
    assert status_of(up, secrets["app"]) == 200
    wait_for(lambda: {readiness(up).status_code for _ in range(10)} == {200}, BACK_S)
    assert crowd.failures == []


def test_a_read_only_database_holds_up_no_client_and_no_reading(
    up: Up, server: PostgresServer, registry: Registry, secrets: dict[str, str], crowd: Crowd
) -> None:
    seen = crowd.answers
    server.take_changes(allowed=False)
    began = time.monotonic()
    wait_for(lambda: "read-only at the moment" in up_error(up), BACK_S)
    wait_for(lambda: time.monotonic() - began > OUTAGE_S)
    assert readiness(up).status_code == 200
    assert crowd.answers > seen
    server.take_changes(allowed=True)
    wait_for(lambda: "error" not in up_error(up), BACK_S)
    assert {status_of(up, secrets["app"]) for _ in range(10)} == {200}
    assert replicas_gone(registry) == []
    assert crowd.failures == []


def up_error(up: Up) -> str:
    """The answer to a change of no consequence: the same conversation is held on the same side again."""
    headers = {"authorization": f"Bearer {up.api_key}"}
    body = {"sticky_key": "one", "side": "stable"}
    return httpx2.put(f"{up.url}/admin/adapters/support/forced", json=body, headers=headers, trust_env=False).text


def test_the_controller_goes_on_and_nothing_is_lost_or_doubled(
    up: Up, registry: Registry, rollout: str, crowd: Crowd, job: str
) -> None:
    crowd.stop()
    assert crowd.failures == []
    print(f"{crowd.answers} chats, the slowest took {crowd.slowest_s:.2f} s")  # noqa: T201
    wait_for(lambda: counted(registry, rollout) == crowd.answers, BACK_S)
    wait_for(lambda: registry.jobs.get(job).state.is_terminal, 240.0)
    ended = registry.jobs.get(job)
    assert (ended.state, ended.attempt) == ("succeeded", 1)
    events = registry.jobs.events(job, limit=10_000)
    steps = [event.data["step"] for event in reversed(events) if event.type == "metrics"]
    assert steps == sorted(set(steps))
    assert len(steps) == steps[-1]
    up.lorry("rollout", "promote", "support")
    wait_for(lambda: registry.rollouts.get(rollout).state.is_terminal, BACK_S)
    moves = [(event.state, event.step) for event in registry.rollouts.events(rollout)]
    assert moves == [("pending", 0), ("progressing", 0), ("promoted", 0)]
    assert registry.adapters.get("support").stable == 2
    # The first revision of the job's adapter became stable by the controller's own move, after both outages.
    wait_for(lambda: registry.adapters.get("learner").stable == 1, BACK_S)


def counted(registry: Registry, rollout: str) -> int:
    return sum(tally.requests for tally in registry.tallies.of_rollout(rollout).values())


def test_it_ends_in_order(up: Up) -> None:
    assert up.stop(signal.SIGTERM) == 0
