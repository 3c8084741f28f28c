"""A fresh registry for each test, on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from registry.columns import metadata
from registry.database import Registry, open_registry
from registry.publishing.publish import publish
from registry.schema import migrate
from registry.settings import RegistrySettings
from registry.types import Base, RevisionDraft
from tests.clock import Clock
from tests.postgres_server import NoPostgres, postgres_server

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[sa.URL]:
    """A PostgreSQL server in which databases may be made: `LORRY_TEST_POSTGRES`, else one of our own."""
    given = os.environ.get("LORRY_TEST_POSTGRES")
    if given:
        yield sa.make_url(given).set(drivername="postgresql+psycopg")
        return
    try:
        with postgres_server() as server:
            yield server.url
    except NoPostgres as exc:
        pytest.fail(
            f"{exc}, or set LORRY_TEST_POSTGRES to the URL of a server in which databases may be made", pytrace=False
        )


@pytest.fixture(scope="session")
def postgres_database(postgres_url: sa.URL) -> Iterator[sa.Engine]:
    """A migrated database of our own."""
    server = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    name = f"lorry_test_{uuid4().hex}"
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    database = sa.create_engine(postgres_url.set(database=name))
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
    opened = open_registry(settings, clock, clock.steady)
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
