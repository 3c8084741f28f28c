"""A process that is killed with -9 leaves all of its work or nothing, and the next start clears the rest."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from registry.batches.batch_state import BatchState
from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.database import Registry, open_registry
from registry.errors import NotFound
from registry.jobs.job import Lease
from registry.jobs.job_state import JobState
from registry.publishing.unused_folders import discard_uploads
from registry.rollouts.rollout_state import RolloutState
from registry.settings import RegistrySettings
from registry.types import Base, File, Revision
from tests.registry.finalizing_batch import finalizing

pytestmark = pytest.mark.killed
KILLED = -signal.SIGKILL
REMOVING = ["rename", "rmdir", "unlink"]
RANDOM_KILLS = 15

ON_SQLITE = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)

Doom = Callable[..., int]


@pytest.fixture
def publisher(
    settings: RegistrySettings, base: Base, spec: SupervisedSpec, make_adapter: Callable[..., Path], doom: Doom
) -> Publisher:
    with_base = open_registry(settings)
    with_base.bases.enter(base)
    with_base.close()
    return Publisher(settings, spec, make_adapter, doom)


class Publisher:
    """Publishes revision after revision of jobs on one registry, and looks at what is left of each attempt."""

    def __init__(
        self, settings: RegistrySettings, spec: SupervisedSpec, make_adapter: Callable[..., Path], doom: Doom
    ) -> None:
        self._settings, self._spec, self._make_adapter, self._doom = settings, spec, make_adapter, doom
        self.whole = 0
        self.url = settings.url
        self._next_job()

    def attempt(self, **when: Any) -> int:
        """Publish once and check what is left; the exit status of the publisher."""
        status = self._doom(action="publish", folder=str(self._folder), lease=asdict(self._lease), **when)
        registry = open_registry(self._settings)
        revisions = revisions_of(registry)
        assert len(revisions) - self.whole in (0, 1)
        assert [revision.number for revision in revisions] == list(range(len(revisions), 0, -1))
        assert stored(self._settings, "folders") == {revision.artifact for revision in revisions}
        assert stored(self._settings, "staging") == set()
        if len(revisions) == self.whole:
            self._check_nothing(registry)
        else:
            self._check_whole(registry, revisions[0])
            self.whole += 1
        registry.close()
        if self.whole == len(revisions) and revisions and revisions[0].job_id == self._lease.job_id:
            self._next_job()
        return status

    def _check_nothing(self, registry: Registry) -> None:
        assert registry.jobs.get(self._lease.job_id).state is JobState.RUNNING
        assert [event.message.split()[0] for event in registry.jobs.events(self._lease.job_id)] == [
            *("Started", "Files", "Validating", "Created"),
        ]
        assert registry.rollouts.open_for("support") is None

    def _check_whole(self, registry: Registry, revision: Revision) -> None:
        assert (registry.artifacts.folder(revision.artifact) / "adapter_model.safetensors").is_file()
        job = registry.jobs.get(self._lease.job_id)
        assert (job.state, job.revision) == (JobState.SUCCEEDED, revision.number)
        rollout = registry.rollouts.open_for("support")
        if revision.number == 1:
            assert rollout is None
            registry.adapters.set_first_stable("support", 1, reason="first_revision")
        else:
            assert rollout is not None
            assert rollout.canary == revision.number
            registry.rollouts.move(rollout.id, RolloutState.PENDING, RolloutState.ABORTED, reason="next")

    def _next_job(self) -> None:
        registry = open_registry(self._settings)
        registry.jobs.create(self._spec, "ann")
        lease = registry.jobs.claim("worker-1", 3600)
        assert lease is not None
        self._lease: Lease = lease
        self._folder: Path = self._make_adapter(seed=self.whole)
        registry.close()


def revisions_of(registry: Registry) -> list[Revision]:
    try:
        return registry.adapters.revisions("support")
    except NotFound:
        return []


def stored(settings: RegistrySettings, kind: str) -> set[str]:
    return {path.name for path in (Path(settings.artifacts) / kind).iterdir()}


def test_a_publisher_killed_before_any_of_its_calls_publishes_all_or_nothing(publisher: Publisher) -> None:
    calls = {} if "sqlite" in publisher.url else {"calls": REMOVING}  # the rest is the same
    left_nothing = left_whole = 0
    for point in count():
        before = publisher.whole
        status = publisher.attempt(point=point, **calls)
        if status == 0:
            break
        assert status == KILLED
        left_whole += publisher.whole - before
        left_nothing += publisher.whole == before
    assert left_nothing > 3
    assert left_whole > 3


def test_a_publisher_killed_at_any_moment_publishes_all_or_nothing(publisher: Publisher) -> None:
    assert publisher.attempt() == 0
    seeded = random.Random(7)
    for _ in range(RANDOM_KILLS):
        assert publisher.attempt(delay_s=seeded.uniform(0.0, 0.12)) in (0, KILLED)
    assert publisher.attempt() == 0


@ON_SQLITE
def test_a_start_killed_while_it_clears_up_is_finished_by_the_next(
    settings: RegistrySettings, publisher: Publisher, make_adapter: Callable[..., Path], doom: Doom
) -> None:
    def publish_until(point: int) -> int:
        return doom(action="publish", folder=folder, point=point, calls=REMOVING)

    folder = str(make_adapter())
    installed = next(point for point in count() if publish_until(point) == KILLED and stored(settings, "folders"))
    for point in count():
        if not stored(settings, "folders"):
            assert publish_until(installed) == KILLED
        if doom(action="open", point=point, calls=REMOVING) == 0:
            break
    assert point > 5
    assert (stored(settings, "folders"), stored(settings, "staging")) == (set(), set())
    assert publisher.attempt() == 0


@ON_SQLITE
def test_an_upload_killed_before_any_of_its_calls_leaves_a_file_or_nothing(
    settings: RegistrySettings, doom: Doom
) -> None:
    for point in count():
        status = doom(action="upload", point=point)
        files = files_after(settings)
        assert len(files) <= 1
        if status == 0:
            assert len(files) == 1
            break
        assert status == KILLED
        delete_all(settings)


@ON_SQLITE
def test_an_upload_of_a_folder_killed_before_any_of_its_calls_leaves_a_job_with_its_bytes_or_nothing(
    settings: RegistrySettings, base: Base, make_adapter: Callable[..., Path], doom: Doom
) -> None:
    registry = open_registry(settings)
    registry.bases.enter(base)
    folder, left_nothing, left_whole = str(make_adapter()), 0, 0
    for point in count():
        status = doom(action="queue", folder=folder, point=point)
        open_registry(settings).close()
        queued = [job for job in registry.jobs.list() if job.state is JobState.QUEUED]
        assert stored(settings, "folders") == {job.spec.model_dump()["artifact"] for job in queued}
        assert stored(settings, "staging") == set()
        if status == 0:
            break
        assert status == KILLED
        assert len(queued) in (0, 1)
        left_nothing, left_whole = left_nothing + (not queued), left_whole + bool(queued)
        for job in queued:
            registry.jobs.request_cancel(job.id, "ann")
            assert len(discard_uploads(registry)) == 1
    registry.close()
    assert len(queued) == 1
    assert left_nothing > 3
    assert left_whole > 0


@ON_SQLITE
def test_a_deletion_killed_before_any_of_its_calls_leaves_a_file_or_nothing(
    settings: RegistrySettings, doom: Doom
) -> None:
    for point in count():
        if not files_after(settings):
            assert doom(action="upload") == 0
        (file,) = files_after(settings)
        status = doom(action="delete", file=file.id, point=point)
        if status == 0:
            break
        assert status == KILLED
    assert files_after(settings) == []


def files_after(settings: RegistrySettings) -> list[File]:
    """The files after a restart; their bytes are whole, and there are no others."""
    registry = open_registry(settings)
    files = registry.files.list()
    assert stored(settings, "files") == {registry.files.path(file).name for file in files}
    assert stored(settings, "staging") == set()
    registry.close()
    return files


def delete_all(settings: RegistrySettings) -> None:
    registry = open_registry(settings)
    for file in registry.files.list():
        registry.files.delete(file.id)
    registry.close()


@ON_SQLITE
def test_a_batch_ends_with_its_files_or_keeps_its_results(
    registry: Registry, settings: RegistrySettings, doom: Doom
) -> None:
    hold = finalizing(registry)
    for point in count():
        status = doom(action="finish", hold=asdict(hold), point=point)
        restarted = open_registry(settings)
        batch = restarted.batches.get(hold.batch_id)
        ended = batch.state is BatchState.COMPLETED
        assert ended == (batch.output_file is not None) == (restarted.batches.answered(batch.id) == set())
        assert len(stored(settings, "files")) == (2 if ended else 0)
        restarted.close()
        if ended:
            break
        assert status == KILLED
    assert point > 5
