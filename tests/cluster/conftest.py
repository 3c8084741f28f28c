"""The cluster that all tests here share, and how far Lorry has come on it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from tests.cluster.lab import Lab, NoNamespaces, lab
from tests.cluster.two_hosts import BASE, START_S, TwoHosts
from tests.postgres_server import postgres_server
from tests.seaweedfs import s3_server
from tests.trainer.tiny_base import write_chats
from tests.waiting import wait_for


@pytest.fixture(scope="session")
def bridge() -> Iterator[Lab]:
    """A lab without hosts."""
    try:
        with lab() as made:
            yield made
    except NoNamespaces as exc:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no namespaces here: {exc}")


@pytest.fixture(scope="session")
def database(bridge: Lab) -> Iterator[sa.URL]:
    """The URL of PostgreSQL, which all hosts reach."""
    with postgres_server(bridge.database_address, bridge.network) as server:
        yield server.url


@pytest.fixture(scope="session")
def hosts(bridge: Lab, database: sa.URL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoHosts]:
    with s3_server(tmp_path_factory.mktemp("seaweedfs"), bridge.store_address) as store:
        yield TwoHosts(bridge, database, store)


@pytest.fixture(scope="session")
def deployed(hosts: TwoHosts) -> TwoHosts:
    """The cluster, on which `serve deploy` has put Lorry."""
    if not hosts.key:
        hosts.make_key()
    hosts.deploy()
    return hosts


@pytest.fixture(scope="session")
def learner(deployed: TwoHosts, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of an adapter that a trainer on host b has made of a job that was given to host a."""
    hosts, name = deployed, "learner"
    hosts.b.begin("lorry", "trainer", log="trainer.log")
    rows = write_chats(tmp_path_factory.mktemp("rows") / "rows.jsonl")
    words = ("train", "sft", "--data", str(rows), "--name", name, "--model", BASE, "--set", "n_epochs=1", "--json")
    job = json.loads(hosts.lorry(hosts.a, *words))["id"]
    path = f"/v1/fine_tuning/jobs/{job}"
    wait_for(lambda: hosts.get(hosts.a, path).json()["status"] in ("succeeded", "failed"), START_S)
    assert hosts.get(hosts.a, path).json()["status"] == "succeeded", hosts.b.log("trainer.log")
    wait_for(lambda: hosts.chat(hosts.a, name, "hi").status_code == 200, START_S)
    return name
