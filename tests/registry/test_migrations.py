"""Jobs that an older database holds are read after the migration, whatever their state and kind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from registry.database import Registry, open_registry
from registry.jobs.job_state import JobState
from registry.rollouts.guardrails import GuardrailPlan
from registry.rollouts.rollout import RolloutPlan, Step
from registry.schema import MIGRATIONS, migrate
from registry.settings import RegistrySettings
from registry.transactions import open_engine

SUPERVISED: dict[str, Any] = {
    "method": "supervised",
    "base": "tiny",
    "base_digest": "0" * 64,
    "adapter": "support",
    "training_file": "file-1",
    "n_epochs": 1,
    "batch_size": 4,
    "learning_rate": 1e-4,
    "seed": 7,
    "metadata": {"rollout_of": "autumn"},
}
PUBLISH = {"method": "publish", "base": "tiny", "base_digest": "0" * 64, "adapter": "support", "artifact": "a" * 64}
NOTHING = {"rollout_steps": None, "rollout_every_s": None, "rollout_guardrails": None, "rollout_shadow_judge": None}
JUDGED = {
    "rollout_steps": ["shadow:10", 25, 100],
    "rollout_every_s": 60.0,
    "rollout_guardrails": {"error_rate": 0.02},
    "rollout_shadow_judge": "tiny",
}


@pytest.fixture
def postgres_url_of_its_own(postgres_url: sa.URL) -> Iterator[str]:
    """An empty PostgreSQL database."""
    server = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    name = f"lorry_test_{uuid4().hex}"
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield postgres_url.set(database=name).render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    server.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'registry.db'}"
    made: str = request.getfixturevalue("postgres_url_of_its_own")
    return made


def fill(url: str, schema: str, specs: dict[str, tuple[JobState, dict[str, Any]]]) -> None:
    """Make the tables of *schema* with a job for each of *specs*, as the Lorry of that time wrote them."""
    engine = open_engine(url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as tx:
        config.attributes["connection"] = tx
        command.upgrade(config, schema)
        jobs = sa.Table("jobs", sa.MetaData(), autoload_with=tx)
        for job_id, (state, spec) in specs.items():
            flags = {"attempt": 0, "cancel_requested": False, "pause_requested": False}
            row = {"id": job_id, "spec": spec, "state": state, "owner": "ann", "created_at": 1.0, **flags}
            tx.execute(sa.insert(jobs).values(row))
    engine.dispose()


def opened(url: str, tmp_path: Path) -> Registry:
    migrate(url)
    return open_registry(RegistrySettings(url=url, artifacts=tmp_path / "artifacts"))


@pytest.mark.long
def test_specs_with_rollout_fields_are_read_as_specs_with_a_rollout(url: str, tmp_path: Path) -> None:
    specs = {
        "ftjob-judged": (JobState.QUEUED, SUPERVISED | JUDGED),
        "ftjob-plain": (JobState.SUCCEEDED, SUPERVISED | NOTHING),
        "ftjob-by-hand": (JobState.PAUSED, SUPERVISED | NOTHING | {"rollout_steps": [100]}),
        "ftjob-oldest": (JobState.FAILED, SUPERVISED | {"rollout_steps": [25, 100]}),
        "pubjob-upload": (JobState.CANCELLED, PUBLISH),
    }
    fill(url, "0008", specs)
    registry = opened(url, tmp_path)
    jobs = {job.id: job for job in registry.jobs.list()}
    assert {job.id: job.state for job in jobs.values()} == {name: state for name, (state, _) in specs.items()}
    assert {job.id: job.spec.rollout_plan() for job in jobs.values()} == {
        "ftjob-judged": RolloutPlan(
            steps=(Step(weight=0, shadow_percent=10), Step(weight=25), Step(weight=100)),
            every_s=60.0,
            guardrails=GuardrailPlan(error_rate=0.02),
            shadow_judge="tiny",
        ),
        "ftjob-plain": None,
        "ftjob-by-hand": RolloutPlan(steps=(Step(weight=100),)),
        "ftjob-oldest": RolloutPlan(steps=(Step(weight=25), Step(weight=100))),
        "pubjob-upload": None,
    }
    judged, upload = jobs["ftjob-judged"].spec.model_dump(), jobs["pubjob-upload"].spec.model_dump()
    assert {name: judged[name] for name in SUPERVISED} == SUPERVISED
    assert upload == PUBLISH
    assert [job.id for job in registry.jobs.list(metadata={"rollout_of": "autumn"}, limit=1)] == ["ftjob-oldest"]
    registry.close()


@pytest.mark.long
def test_a_database_without_jobs_is_migrated(url: str, tmp_path: Path) -> None:
    fill(url, "0008", {})
    registry = opened(url, tmp_path)
    assert registry.jobs.list() == []
    registry.close()


def test_migrations_are_one_chain_in_the_order_of_their_file_names() -> None:
    chain = [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()]
    assert chain == sorted((file.name[:4] for file in MIGRATIONS.glob("versions/[0-9]*.py")), reverse=True)


@pytest.mark.long
def test_only_a_process_that_migrates_loads_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'registry.db'}"
    migrate(url)
    program = "import sys; from pathlib import Path; from registry.database import open_registry\n"
    program += "from registry.settings import RegistrySettings\n"
    program += "open_registry(RegistrySettings(url=sys.argv[1], artifacts=Path(sys.argv[2]))).close()\n"
    program += "assert 'alembic' not in sys.modules"
    subprocess.run([sys.executable, "-c", program, url, str(tmp_path / "artifacts")], check=True)


@pytest.mark.long
def test_what_an_older_lorry_stored_belongs_to_the_key_that_made_it(url: str, tmp_path: Path) -> None:
    fill(url, "0009", {"ftjob-1": (JobState.QUEUED, SUPERVISED), "ftjob-2": (JobState.QUEUED, SUPERVISED)})
    key = {"id": "key_1", "hash": "0", "hint": "0", "name": "ann", "owner": "", "scopes": ["training"]}
    file = {"filename": "f", "purpose": "fine-tune", "size_bytes": 1, "digest": "0" * 64, "created_at": 1.0}
    revision = {"state": "ready", "artifact": "0" * 64, "base": "tiny", "base_digest": "0", "rank": 1}
    revision |= {"target_modules": [], "provenance": {}, "created_at": 1.0}
    rows: dict[str, list[dict[str, Any]]] = {
        "keys": [key | {"priority": "normal", "actor": "x", "created_at": 1.0}],
        "files": [file | {"id": "file-1", "owner": "ann"}, file | {"id": "file-2", "owner": "claimed"}],
        "bases": [{"name": "tiny", "path": "/", "digest": "0", "licence": "", "created_at": 1.0}],
        "adapters": [{"name": name, "base": "tiny", "created_at": 1.0} for name in ("support", "sales")],
        "revisions": [
            revision | {"adapter": "support", "number": 1, "owner": "ann"},
            revision | {"adapter": "support", "number": 2, "owner": "bob"},
            revision | {"adapter": "sales", "number": 1, "owner": "claimed"},
        ],
    }
    engine = open_engine(url)
    with engine.begin() as tx:
        for table, values in rows.items():
            tx.execute(sa.insert(sa.Table(table, sa.MetaData(), autoload_with=tx)), values)
        tx.execute(sa.text("UPDATE jobs SET owner = 'claimed' WHERE id = 'ftjob-2'"))
    engine.dispose()
    registry = opened(url, tmp_path)
    assert {file.id: file.tenant for file in registry.files.list()} == {"file-1": "ann", "file-2": "local"}
    assert {job.id: job.tenant for job in registry.jobs.list()} == {"ftjob-1": "ann", "ftjob-2": "local"}
    owners = {owner.adapter: (owner.tenant, owner.is_shared) for owner in registry.snapshot().owners}
    assert owners == {"support": ("ann", True), "sales": ("local", True)}
    assert [key.tenant for key in registry.keys.list()] == [""]
    registry.close()


@pytest.mark.long
def test_answers_and_ratings_of_an_older_lorry_stay(url: str, tmp_path: Path) -> None:
    fill(url, "0011", {})
    cell = {"rollout_id": "ro-1", "step": 0, "side": "canary", "replica": "r0", "served_name": "support@2", "at": 1.0}
    engine = open_engine(url)
    with engine.begin() as tx:
        for table, row in (
            ("completions", cell | {"id": "c-1"}),
            ("feedback", cell | {"completion_id": "c-1", "adapter": "support", "score": 0.5, "comment": "so so"}),
        ):
            tx.execute(sa.insert(sa.Table(table, sa.MetaData(), autoload_with=tx)), [row])
    engine.dispose()
    registry = opened(url, tmp_path)
    (old,) = registry.feedback.of_served_name("support@2")
    assert (old.tenant, old.score, old.comment) == ("local", 0.5, "so so")
    assert registry.feedback.rate("c-1", 1.0, "").cell == old.cell
    assert [each.score for each in registry.feedback.of_served_name("support@2")] == [1.0]
    registry.close()
