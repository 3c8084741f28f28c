"""A fresh registry for each test, on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa

from registry.columns import metadata
from registry.database import Registry, migrate, open_registry
from registry.publish import publish
from registry.settings import RegistrySettings
from registry.training_spec import TrainingSpec
from registry.types import Base, RevisionDraft
from tests.clock import Clock

ROOT = Path(__file__).parents[2]
POSTGRES_START_S = 30.0
PR_SET_PDEATHSIG = 1


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[sa.URL]:
    """A PostgreSQL server in which databases may be made: `LORRY_TEST_POSTGRES`, else one of our own."""
    given = os.environ.get("LORRY_TEST_POSTGRES")
    if given:
        yield sa.make_url(given).set(drivername="postgresql+psycopg")
        return
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not folders:
        pytest.fail(
            "no PostgreSQL server in /usr/lib/postgresql: `apt-get install postgresql`, or set LORRY_TEST_POSTGRES "
            "to the URL of a server in which databases may be made",
            pytrace=False,
        )
    home = Path(tempfile.mkdtemp(prefix="lorry-postgres-"))
    try:
        yield from _run_postgres(folders[-1], home)
    finally:
        shutil.rmtree(home)


def _run_postgres(binaries: Path, home: Path) -> Iterator[sa.URL]:
    account: dict[str, Any] = {}
    if os.geteuid() == 0:  # the server refuses to run as root
        postgres = pwd.getpwnam("postgres")
        os.chown(home, postgres.pw_uid, postgres.pw_gid)
        account = {"user": postgres.pw_uid, "group": postgres.pw_gid, "extra_groups": []}
    cluster, log = home / "cluster", home / "log"
    initdb = [f"{binaries}/initdb", "-D", f"{cluster}", "-U", "lorry", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(initdb, check=True, cwd=home, capture_output=True, **account)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "max_connections": 200,
    }
    command = [f"{binaries}/postgres", "-D", f"{cluster}", *(f"--{name}={value}" for name, value in settings.items())]
    libc = ctypes.CDLL(None)
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            cwd=home,
            stdout=output,
            stderr=output,
            preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGQUIT),  # noqa: PLW1509
            **account,
        )
    try:
        _wait_for_postgres(server, port, log)
        yield sa.URL.create("postgresql+psycopg", username="lorry", host="127.0.0.1", port=port, database="postgres")
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait(timeout=POSTGRES_START_S)


def _wait_for_postgres(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + POSTGRES_START_S
    while True:
        try:
            psycopg.connect(host="127.0.0.1", port=port, user="lorry", dbname="postgres").close()
        except psycopg.OperationalError as exc:
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL does not start: {exc}\n{log.read_text()}", pytrace=False)
            time.sleep(0.05)
        else:
            return


@pytest.fixture(scope="session")
def postgres_database(postgres_server: sa.URL) -> Iterator[sa.Engine]:
    """A migrated database of our own."""
    server = sa.create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    name = f"lorry_test_{uuid4().hex}"
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    database = sa.create_engine(postgres_server.set(database=name))
    migrate(database.url.render_as_string(hide_password=False))
    yield database
    database.dispose()
    with server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    server.dispose()


@pytest.fixture
def postgres_settings(postgres_database: sa.Engine, tmp_path: Path) -> Iterator[RegistrySettings]:
    """A migrated PostgreSQL registry, emptied after the test: a database for each would take minutes."""
    url = postgres_database.url.render_as_string(hide_password=False)
    yield RegistrySettings(url=url, artifacts=tmp_path / "artifacts")
    with postgres_database.begin() as tx:
        for table in reversed(metadata.sorted_tables):
            tx.execute(sa.delete(table))


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def settings(request: pytest.FixtureRequest) -> RegistrySettings:
    """A migrated, empty registry on each kind of database."""
    made: RegistrySettings = request.getfixturevalue(f"{request.param}_settings")
    return made


@pytest.fixture
def registry(settings: RegistrySettings, clock: Clock) -> Iterator[Registry]:
    """An open registry on each kind of database."""
    opened = open_registry(settings, clock)
    yield opened
    opened.close()


@pytest.fixture
def published(registry: Registry, base: Base, make_adapter: Callable[..., Path]) -> Registry:
    """A registry with `support@1`, which is stable, and `support@2` and `support@3`."""
    registry.bases.enter(base)
    for seed in (1, 2, 3):
        draft = RevisionDraft(adapter="support", base="tiny", owner="ann", alias=f"ft:tiny:acme:support:{seed}")
        publish(registry, make_adapter(seed), draft)
    registry.adapters.set_first_stable("support", 1, reason="first_revision")
    return registry


@pytest.fixture
def doom(settings: RegistrySettings) -> Iterator[Callable[..., int]]:
    """Has `doomed.py` carry a request out on the registry; answers with the exit status."""
    command = [sys.executable, str(Path(__file__).with_name("doomed.py")), settings.model_dump_json()]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        requests, statuses = server.stdin, server.stdout

        def run(**request: Any) -> int:
            requests.write(json.dumps(request) + "\n")
            requests.flush()
            return int(statuses.readline())

        yield run
        requests.close()
        server.wait(timeout=30)


@pytest.fixture
def spec() -> TrainingSpec:
    """What a job is asked to do."""
    return TrainingSpec(
        base="tiny",
        base_digest="0" * 64,
        adapter="support",
        training_file="file-1",
        n_epochs=1,
        batch_size=4,
        learning_rate=1e-4,
        seed=7,
    )
