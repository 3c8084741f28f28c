"""A folder that was trained elsewhere becomes a revision with a fingerprint, whichever process dies meanwhile."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil
import pytest

from registry.contracts.fingerprint import check_fingerprint
from registry.database import Registry
from registry.errors import AdapterRejected, Conflict, NotFound
from registry.jobs.job import Job
from registry.jobs.job_state import JobState
from registry.publishing.publications import Upload, queue_publication
from tests.engines.random_adapter import write_adapter
from tests.gateway.replica_rows import replica_row
from tests.trainer.attempts import TIMEOUT_S, training_children, work, worker_process
from tests.trainer.forks.forked_children import ForkedChildren
from tests.waiting import wait_for
from trainer.settings import TrainerSettings

pytestmark = pytest.mark.trains


@pytest.fixture
def folder(tiny_base: Path, tmp_path: Path) -> Path:
    """An adapter as users upload it: another rank for some modules, rank-stabilised, with a file that nobody needs."""
    brought = write_adapter(tmp_path / "brought", tiny_base, seed=1, rank=4, strength=0.3, use_rslora=True)
    (brought / "README.md").write_text("# mine")
    return brought


@pytest.fixture
def job(registry: Registry, folder: Path) -> Job:
    return queue_publication(registry, Upload(folder=folder), adapter="support", base="tiny", owner="ann")


def test_an_upload_becomes_a_revision_that_can_be_proven(
    registry: Registry, settings: TrainerSettings, job: Job
) -> None:
    work(registry, settings)
    ended = registry.jobs.get(job.id)
    assert (ended.state, ended.error, ended.revision) == (JobState.SUCCEEDED, None, 1)
    revision = registry.adapters.revision("support", 1)
    assert (revision.rank, revision.alias, revision.job_id, revision.owner) == (8, None, job.id, "ann")
    assert revision.provenance["source"] == "published by hand"
    assert set(revision.provenance["versions"]) >= {"torch", "transformers", "peft", "python"}
    published = registry.artifacts.folder(revision.artifact)
    names = ["adapter_config.json", "adapter_model.safetensors", "fingerprint.json"]
    assert sorted(path.name for path in published.iterdir()) == names
    fingerprint = check_fingerprint(published, registry.bases.get("tiny"))
    effects = [token.logprob - token.base_logprob for probe in fingerprint.probes for token in probe.tokens]
    assert max(map(abs, effects)) > 0.1
    assert not registry.artifacts.has_folder(job.spec.model_dump()["artifact"]), "the upload is not kept"
    assert not list(settings.work.glob("*/*/final"))
    messages = [event.message for event in registry.jobs.events(job.id)]
    assert {"Publish job started", "Base model loaded", "Published as support@1"} <= set(messages)


def test_kill_9_of_worker_and_child_leaves_the_upload_for_the_next_attempt(
    registry: Registry, settings: TrainerSettings, job: Job, home: Path
) -> None:
    with worker_process(home) as worker:
        wait_for(lambda: training_children(psutil.Process(worker.pid)), TIMEOUT_S)
        worker.kill()
    wait_for(lambda: registry.jobs.expire_leases() == [job.id], TIMEOUT_S)
    registry.recover()
    # Engines of the machine that are never idle hold up training, but nobody who waits for an upload.
    registry.replicas.report(replica_row("engine-1", load=settings.engine_load_limit + 1))
    work(registry, settings)
    ended = registry.jobs.get(job.id)
    assert (ended.state, ended.attempt, ended.revision) == (JobState.SUCCEEDED, 2, 1)


def test_an_upload_whose_bytes_are_gone_fails_with_a_reason(
    registry: Registry, settings: TrainerSettings, forks: ForkedChildren, job: Job
) -> None:
    shutil.rmtree(registry.artifacts.folder(job.spec.model_dump()["artifact"]))
    forks.work(registry, settings)
    error = registry.jobs.get(job.id).error
    assert error is not None
    assert error.code == "file_not_readable"


def test_what_can_be_refused_is_refused_before_there_is_a_job(registry: Registry, folder: Path, home: Path) -> None:
    with pytest.raises(NotFound, match="no base model 'big'"):
        queue_publication(registry, Upload(folder=folder), adapter="support", base="big", owner="ann")
    with pytest.raises(Conflict, match="is the name of a base model"):
        queue_publication(registry, Upload(folder=folder), adapter="tiny", base="tiny", owner="ann")
    with pytest.raises(AdapterRejected, match="adapter name"):
        queue_publication(registry, Upload(folder=folder), adapter="a@b", base="tiny", owner="ann")
    (folder / "adapter_model.safetensors").write_bytes(b"\x80\x04")
    with pytest.raises(AdapterRejected, match="a pickle under another name"):
        queue_publication(registry, Upload(folder=folder), adapter="support", base="tiny", owner="ann")
    assert registry.jobs.list() == []
    assert not any((home / "artifacts" / "folders").iterdir())
