"""The schema is made by migrations alone, refused when it is foreign, and read as of one moment."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from registry import tables
from registry.columns import metadata
from registry.database import Registry, open_registry
from registry.errors import (
    Conflict,
    NotFound,
    NotStorable,
    RegistryUnavailable,
    SchemaForeign,
    SchemaTooNew,
    SchemaTooOld,
    SettingsInvalid,
)
from registry.rollouts.rollout import Rollout, RolloutPlan, weighted
from registry.rollouts.rollout_state import RolloutState
from registry.schema import migrate
from registry.settings import RegistrySettings
from registry.types import Base

ROOT = Path(__file__).parents[2]


def test_the_migrations_make_the_tables_that_the_stores_use(settings: RegistrySettings) -> None:
    engine = sa.create_engine(settings.url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_migrating_again_keeps_what_is_there(settings: RegistrySettings, base: Base) -> None:
    registry = open_registry(settings)
    registry.bases.enter(base)
    migrate(settings.url)
    assert registry.bases.get("tiny") == base
    registry.close()


@pytest.mark.long
def test_processes_that_migrate_a_new_database_at_once_agree(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new' / 'registry.db'}"
    command = [sys.executable, "-c", f"from registry.schema import migrate; migrate({url!r})"]
    children = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) for _ in range(4)]
    assert [child.communicate(timeout=60)[1].decode() for child in children] == [""] * 4
    assert [child.returncode for child in children] == [0] * 4
    open_registry(RegistrySettings(url=url, artifacts=tmp_path / "artifacts")).close()


def test_a_registry_of_a_newer_lorry_is_refused_with_both_schemas_named(settings: RegistrySettings) -> None:
    engine = sa.create_engine(settings.url)
    with engine.begin() as tx:
        ours = tx.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
        tx.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    for attempt in (lambda: migrate(settings.url), lambda: open_registry(settings)):
        with pytest.raises(SchemaTooNew, match=rf"schema 9999.*up to {ours}.*Upgrade Lorry"):
            attempt()
    with engine.begin() as tx:
        tx.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{ours}'")
    engine.dispose()
    open_registry(settings).close()


def test_an_empty_database_is_refused_until_it_is_migrated(tmp_path: Path) -> None:
    settings = RegistrySettings(url=f"sqlite:///{tmp_path / 'registry.db'}", artifacts=tmp_path / "artifacts")
    with pytest.raises(SchemaTooOld, match=r"no schema.*needs \d{4}.*migrate"):
        open_registry(settings)


@pytest.mark.parametrize("url", ["mysql://localhost/lorry", "sqlite://", "registry.db", "postgresql+psycopg2://h/d"])
def test_an_address_of_another_kind_of_database_is_refused(url: str) -> None:
    with pytest.raises(SettingsInvalid, match="url"):
        migrate(url)


def test_postgresql_without_its_driver_says_what_to_install() -> None:
    program = "import sys; sys.modules['psycopg'] = None\nfrom registry.transactions import open_engine\n"
    program += "open_engine('postgresql://h/d')"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "SettingsInvalid" in ended.stderr
    assert "pip install 'lorry[postgres]'" in ended.stderr


def test_a_server_that_is_away_is_named_without_its_password(tmp_path: Path) -> None:
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        url = f"postgresql://ann:secret@127.0.0.1:{nobody_listens.getsockname()[1]}/lorry"
        with pytest.raises(RegistryUnavailable, match=r"ann:\*\*\*@127\.0\.0\.1") as caught:
            open_registry(RegistrySettings(url=url, artifacts=tmp_path / "artifacts"))
    assert "secret" not in str(caught.value)


def test_a_transaction_that_fails_changes_nothing(registry: Registry, base: Base) -> None:
    registry.bases.enter(base)
    with pytest.raises(NotFound), registry.transactions.write() as tx:
        tx.execute(sa.delete(tables.bases))
        raise NotFound("changed my mind")
    assert registry.bases.list() == [base]


def test_the_database_itself_refuses_a_second_open_rollout_and_a_second_use_of_a_number(published: Registry) -> None:
    published.rollouts.start("support", 2, RolloutPlan(steps=weighted(100)), "ann")
    for table, changes in ((tables.rollouts, {"id": "ro-2", "canary": 3}), (tables.revisions, {"alias": "other"})):
        with published.transactions.read() as tx:
            row = dict(tx.execute(sa.select(table)).mappings().first() or {})
        row.pop("seq", None)
        with pytest.raises(Conflict), published.transactions.write() as tx:
            tx.execute(sa.insert(table).values(row | changes))


def test_everything_in_a_read_shows_one_moment(published: Registry) -> None:
    stable = sa.select(tables.adapters.c.stable)
    with published.transactions.read() as tx:
        before = tx.execute(stable).scalar_one()
        rollout = published.rollouts.start("support", 2, RolloutPlan(steps=weighted(100)), "ann")
        published.rollouts.move(rollout.id, RolloutState.PENDING, RolloutState.PROMOTED, reason="done")
        assert tx.execute(stable).scalar_one() == before == 1
    assert published.adapters.get("support").stable == 2


def test_a_snapshot_holds_what_routes_are_derived_from(published: Registry) -> None:
    rollout = published.rollouts.start("support", 2, RolloutPlan(steps=weighted(25, 100)), "ann")
    published.adapters.retire("support", 3, "ann")
    snapshot = published.snapshot()
    assert [base.name for base in snapshot.bases] == ["tiny"]
    assert [adapter.stable for adapter in snapshot.adapters] == [1]
    assert [revision.served_name for revision in snapshot.revisions] == ["support@1", "support@2"]
    assert snapshot.rollouts == (rollout,)
    published.rollouts.move(rollout.id, RolloutState.PENDING, RolloutState.ABORTED, reason="canary_failed")
    assert published.snapshot().rollouts == ()


def test_a_promotion_is_watched_while_its_canary_is_the_stable_and_the_time_is_not_over(
    published: Registry, advance: Callable[[float], None]
) -> None:
    def promote(number: int) -> Rollout:
        rollout = published.rollouts.start("support", number, RolloutPlan(steps=weighted(100)), "ann")
        return published.rollouts.move(rollout.id, RolloutState.PENDING, RolloutState.PROMOTED, reason="done")

    promote(2)
    advance(50)
    second = promote(3)
    assert published.snapshot(100.0).watched == (second,)
    assert published.snapshot(100.0).rollouts == ()
    back = promote(2)
    assert published.snapshot(100.0).watched == (back,)
    advance(100)
    assert published.snapshot(100.0).watched == ()
    assert published.snapshot().watched == ()


@pytest.mark.long
def test_a_second_writer_waits_instead_of_failing(registry: Registry, base: Base, settings: RegistrySettings) -> None:
    script = (
        "import sys; from registry.database import *; from registry.settings import *\n"
        "registry = open_registry(RegistrySettings.model_validate_json(sys.argv[1]))\n"
        "for number in range(50): registry.audit.record('child', 'count', str(number))\n"
        "registry.close()\n"
    )
    command = [sys.executable, "-c", script, settings.model_dump_json()]
    child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
    for number in range(50):
        registry.audit.record("parent", "count", str(number))
    assert child.communicate(timeout=60)[1].decode() == ""
    actors = [entry.actor for entry in registry.audit.list(limit=200)]
    assert (actors.count("parent"), actors.count("child")) == (50, 50)


@pytest.mark.postgres
def test_a_server_that_dropped_its_connections_is_used_again(
    postgres_settings: RegistrySettings, postgres_database: sa.Engine, base: Base
) -> None:
    registry = open_registry(postgres_settings)
    registry.bases.enter(base)
    with postgres_database.begin() as tx:
        ours = "datname = current_database() AND pid <> pg_backend_pid()"
        tx.exec_driver_sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}")
    assert registry.bases.list() == [base]
    registry.close()


@pytest.mark.parametrize(
    "attempt", [migrate, lambda url: open_registry(RegistrySettings(url=url, artifacts=Path("a")))]
)
@pytest.mark.parametrize(
    ("written", "advice"),
    [
        (b"this is a letter and no database " * 200, r"damaged or not an SQLite database.*put back a copy"),
        (b"SQLite format 3\x00" + b"\xff" * 4096, r"damaged or not an SQLite database.*put back a copy"),
    ],
)
def test_a_file_that_is_no_database_is_refused_in_a_line(
    tmp_path: Path, attempt: Callable[[str], object], written: bytes, advice: str
) -> None:
    (tmp_path / "registry.db").write_bytes(written)
    with pytest.raises(RegistryUnavailable, match=advice) as caught:
        attempt(f"sqlite:///{tmp_path / 'registry.db'}")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "registry.db").read_bytes() == written


@pytest.mark.parametrize("statement", ["CREATE TABLE songs (id INTEGER)", "CREATE TABLE alembic_version (version_num)"])
def test_a_database_of_another_program_is_refused_and_left_as_it_is(tmp_path: Path, statement: str) -> None:
    url = f"sqlite:///{tmp_path / 'songs.db'}"
    engine = sa.create_engine(url)
    with engine.begin() as tx:
        tx.exec_driver_sql(statement)
        if "alembic" in statement:
            tx.exec_driver_sql("INSERT INTO alembic_version VALUES ('ae1027a6acf')")
    for attempt in (migrate, lambda url: open_registry(RegistrySettings(url=url, artifacts=tmp_path / "artifacts"))):
        with pytest.raises(SchemaForeign, match=r"another program.*a database of its own"):
            attempt(url)
    assert len(sa.inspect(engine).get_table_names()) == 1
    engine.dispose()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsInvalid, match=r"\[registry\] url: the folder .*file/below cannot be made"):
        migrate(f"sqlite:///{tmp_path}/file/below/registry.db")


def test_a_table_that_is_missing_makes_the_registry_unavailable(registry: Registry) -> None:
    with pytest.raises(RegistryUnavailable, match="nowhere"), registry.transactions.read() as tx:
        tx.exec_driver_sql("SELECT 1 FROM nowhere")


@pytest.mark.parametrize("name", ["\ud800", 2**70])
def test_a_value_that_no_database_stores_is_an_error_of_the_value(registry: Registry, name: object) -> None:
    column = tables.jobs.c.id if isinstance(name, str) else tables.jobs.c.seq
    with pytest.raises(NotStorable), registry.transactions.read() as tx:
        tx.execute(sa.select(tables.jobs).where(column == name)).all()
