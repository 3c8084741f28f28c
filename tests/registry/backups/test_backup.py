"""A backup that is restored has every row and every artifact, whichever databases were used and whoever wrote then."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from registry.backups.backup import BackupReport, back_up, restore
from registry.backups.rows import PASSING
from registry.columns import metadata
from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.database import Registry, open_registry
from registry.errors import Conflict, NotFound, SchemaTooNew
from registry.jobs.job_state import JobState
from registry.publishing.publish import publish
from registry.settings import RegistrySettings
from registry.transactions import open_engine
from registry.types import Base, File, RevisionDraft
from tests.gateway.stage import report
from tests.registry.test_migrations import SUPERVISED, fill


def add(registry: Registry, content: bytes) -> File:
    return registry.files.add([content], filename="rows.jsonl", purpose="fine-tune", owner="ann")


def rows_of(registry: Registry) -> dict[str, list[Any]]:
    """Every row of every table, but of those about running processes and of change numbers."""
    left_out = {*PASSING, "table_changes"}
    with registry.transactions.read() as tx:
        found = {table.name: tx.execute(sa.select(table)).mappings().all() for table in metadata.sorted_tables}
    return {name: sorted(map(repr, rows)) for name, rows in found.items() if name not in left_out}


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RegistrySettings]:
    """An empty registry of the other kind than that of the test."""
    is_sqlite = request.getfixturevalue("settings").url.startswith("sqlite")
    other: RegistrySettings = request.getfixturevalue("postgres_settings" if is_sqlite else "sqlite_settings")
    yield other.model_copy(update={"artifacts": tmp_path / "elsewhere" / "artifacts"})


def restored(folder: Path, settings: RegistrySettings) -> tuple[Registry, BackupReport]:
    made = restore(folder, settings)
    return open_registry(settings), made


@pytest.mark.long
@pytest.mark.postgres
def test_a_registry_moves_to_the_other_kind_of_database(
    published: Registry, spec: SupervisedSpec, elsewhere: RegistrySettings, tmp_path: Path
) -> None:
    file = add(published, b"hello rows")
    job = published.jobs.create(spec, "ann")
    report(published, "r1", "support@1")
    taken = back_up(published, tmp_path / "backup")
    assert (taken.artifacts, taken.copied, taken.lost) == (4, 4, ())
    there, brought = restored(tmp_path / "backup", elsewhere)
    assert (brought.artifacts, brought.copied, brought.lost) == (4, 4, ())
    assert rows_of(there) == rows_of(published)
    assert there.replicas.list() == []
    assert there.files.path(file).read_bytes() == b"hello rows"
    for revision in there.adapters.revisions("support"):
        assert there.artifacts.folder(revision.artifact).is_dir()
    assert there.jobs.create(spec, "ann").id != job.id  # keys go on behind those that came along
    assert [one.owner for one in there.jobs.list()] == ["ann", "ann"]
    there.close()


@pytest.mark.long
def test_a_backup_is_renewed_by_what_has_changed(published: Registry, tmp_path: Path) -> None:
    file = add(published, b"first")
    back_up(published, tmp_path / "backup")
    published.files.delete(file.id)
    later = add(published, b"second")
    assert back_up(published, tmp_path / "backup").copied == 1
    assert [path.name for path in (tmp_path / "backup" / "artifacts" / "files").iterdir()] == [later.digest]


def test_a_backup_is_itself_a_home(sqlite_published: Registry, tmp_path: Path) -> None:
    back_up(sqlite_published, tmp_path / "backup")
    settings = RegistrySettings(
        url=f"sqlite:///{tmp_path / 'backup' / 'registry.db'}", artifacts=tmp_path / "backup" / "artifacts"
    )
    opened = open_registry(settings)
    assert rows_of(opened) == rows_of(sqlite_published)
    opened.close()


@pytest.fixture
def sqlite_published(sqlite_registry: Registry, base: Base, make_adapter: Callable[..., Path]) -> Registry:
    """A SQLite registry with an adapter and a file."""
    sqlite_registry.bases.enter(base)
    publish(sqlite_registry, make_adapter(1), RevisionDraft(adapter="support", base="tiny", owner="ann", alias="ft:1"))
    add(sqlite_registry, b"hello rows")
    return sqlite_registry


@pytest.mark.long
def test_a_backup_is_whole_while_files_come_and_go(sqlite_published: Registry, tmp_path: Path) -> None:
    is_over = threading.Event()

    def come_and_go() -> None:
        while not is_over.wait(0.02):
            sqlite_published.files.delete(add(sqlite_published, uuid4().bytes).id)

    others = threading.Thread(target=come_and_go)
    others.start()
    try:
        for number in range(3):
            folder = tmp_path / f"backup-{number}"
            taken = back_up(sqlite_published, folder)
            assert taken.lost == ()
            assert len(list((folder / "artifacts").glob("f*/*"))) == taken.artifacts
    finally:
        is_over.set()
        others.join()


@pytest.mark.long
def test_an_artifact_that_the_registry_lost_is_named(sqlite_published: Registry, tmp_path: Path) -> None:
    file = add(sqlite_published, b"lost")
    (tmp_path / "artifacts" / "files" / file.digest).unlink()
    assert back_up(sqlite_published, tmp_path / "backup").lost == (file.digest,)


@pytest.mark.long
def test_a_registry_with_rows_is_not_restored_into(sqlite_published: Registry, tmp_path: Path) -> None:
    back_up(sqlite_published, tmp_path / "backup")
    own = RegistrySettings(url=f"sqlite:///{tmp_path / 'registry.db'}", artifacts=tmp_path / "artifacts")
    before = rows_of(sqlite_published)
    with pytest.raises(Conflict, match="it has rows in '"):
        restore(tmp_path / "backup", own)
    assert rows_of(sqlite_published) == before


def test_a_folder_without_a_backup_is_named(sqlite_settings: RegistrySettings, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no backup in"):
        restore(tmp_path / "nothing", sqlite_settings)


def test_the_backup_of_a_newer_lorry_is_refused(
    sqlite_published: Registry, sqlite_template: Path, tmp_path: Path
) -> None:
    back_up(sqlite_published, tmp_path / "backup")
    engine = open_engine(f"sqlite:///{tmp_path / 'backup' / 'registry.db'}")
    with engine.begin() as tx:
        tx.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    shutil.copy(sqlite_template, tmp_path / "empty.db")
    empty = RegistrySettings(url=f"sqlite:///{tmp_path / 'empty.db'}", artifacts=tmp_path / "empty")
    with pytest.raises(SchemaTooNew, match="Upgrade Lorry"):
        restore(tmp_path / "backup", empty)


@pytest.mark.long
def test_the_backup_of_an_older_lorry_is_brought_up_to_date(sqlite_settings: RegistrySettings, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    old = f"sqlite:///{tmp_path / 'old' / 'registry.db'}"
    fill(old, "0009", {"ftjob-1": (JobState.SUCCEEDED, SUPERVISED)})
    there, brought = restored(tmp_path / "old", sqlite_settings)
    assert brought.lost == ()
    assert [(job.id, job.state) for job in there.jobs.list()] == [("ftjob-1", JobState.SUCCEEDED)]
    there.close()
    engine = open_engine(old)
    with engine.begin() as tx:
        assert tx.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == "0009"
    engine.dispose()
