"""A registry on SQLite with the tiny base, and jobs in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.artifacts import folder_digest
from registry.contracts.job_spec import LoraSpec
from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.database import Registry, open_registry
from registry.jobs.job import Job
from registry.settings import RegistrySettings
from registry.types import Base
from tests.trainer.attempts import MakeJob
from tests.trainer.forks.forked_children import ForkedChildren
from tests.trainer.tiny_base import save_base, write_chats
from trainer.settings import TrainerSettings

MakeSpec = Callable[..., SupervisedSpec]


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tiny base."""
    folder = tmp_path_factory.mktemp("tiny")
    save_base(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_digest(tiny_base: Path) -> str:
    """Digest of the tiny base."""
    return folder_digest(tiny_base)


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkedChildren]:
    """Training children without the seven seconds of their imports, for tests that are not about how children start."""
    started = ForkedChildren()
    yield started
    started.close()


@pytest.fixture
def home(tmp_path: Path, sqlite_template: Path) -> Path:
    """A folder of all state with a migrated registry."""
    shutil.copy(sqlite_template, tmp_path / "registry.db")
    return tmp_path


@pytest.fixture
def registry(home: Path, tiny_base: Path, tiny_digest: str) -> Iterator[Registry]:
    """A registry that knows the tiny base."""
    opened = open_registry(RegistrySettings(url=f"sqlite:///{home / 'registry.db'}", artifacts=home / "artifacts"))
    base = Base(name="tiny", path=str(tiny_base), digest=tiny_digest, licence="apache-2.0", created_at=1.0)
    opened.bases.enter(base)
    yield opened
    opened.close()


@pytest.fixture
def make_spec(tiny_digest: str) -> MakeSpec:
    """Makes specs for the tiny base; keyword arguments override fields."""

    def make(**fields: Any) -> SupervisedSpec:
        given: dict[str, Any] = {
            "base": "tiny",
            "base_digest": tiny_digest,
            "adapter": "support",
            "training_file": "file-1",
            "n_epochs": 2,
            "batch_size": 4,
            "learning_rate": 1e-2,
            "checkpoint_steps": 2,
            "seed": 7,
            "lora": LoraSpec(rank=4, alpha=8, dropout=0.1),
        }
        return SupervisedSpec(**(given | fields))

    return make


@pytest.fixture
def settings(home: Path) -> TrainerSettings:
    """Settings of a worker that looks often."""
    return TrainerSettings(work=home / "jobs", lease_s=20.0, poll_s=0.1)


@pytest.fixture
def make_job(registry: Registry, make_spec: MakeSpec, home: Path) -> MakeJob:
    """Queues jobs on an uploaded file; keyword arguments override fields of the spec."""

    def make(*, validates: bool = False, **fields: Any) -> Job:
        with write_chats(home / "chats.jsonl").open("rb") as lines:
            file = registry.files.add(lines, filename="chats.jsonl", purpose="fine-tune", owner="ann")
        files = {"training_file": file.id, "validation_file": file.id if validates else None}
        return registry.jobs.create(make_spec(**(files | fields)), owner="ann")

    return make
