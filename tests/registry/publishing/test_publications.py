"""An upload is a queued job with its bytes, or nothing; it is kept until the job has ended, and no longer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.contracts.publish_spec import PublishSpec
from registry.database import Registry
from registry.errors import AdapterRejected, Conflict
from registry.jobs.job import Job, Lease
from registry.jobs.job_state import JobState
from registry.publishing.publications import Upload, queue_publication
from registry.publishing.publish import publish
from registry.publishing.unused_folders import discard_uploads
from registry.types import Base, RevisionDraft

Make = Callable[..., Path]


def queue(registry: Registry, folder: Path, **fields: str) -> Job:
    asked = {"adapter": "support", "base": "tiny", "owner": "ann"} | fields
    upload = Upload(folder=folder)
    return queue_publication(registry, upload, adapter=asked["adapter"], base=asked["base"], owner=asked["owner"])


def artifact_of(job: Job) -> str:
    assert isinstance(job.spec, PublishSpec)
    return job.spec.artifact


def claimed(registry: Registry) -> Lease:
    lease = registry.jobs.claim("worker-1", 30)
    assert lease is not None
    return lease


def test_an_upload_is_a_job_that_is_no_fine_tune(published: Registry, spec: SupervisedSpec, make_adapter: Make) -> None:
    trained = published.jobs.create(spec, "ann")
    job = queue(published, make_adapter(seed=9, rank=3))
    assert (job.state, job.owner, job.id[:7]) == (JobState.QUEUED, "ann", "pubjob-")
    assert job.spec == published.jobs.get(job.id).spec
    assert (published.artifacts.folder(artifact_of(job)) / "adapter_config.json").is_file()
    assert [one.id for one in published.jobs.list()] == [job.id, trained.id]
    assert [one.id for one in published.jobs.list(only_fine_tuning=True)] == [trained.id]
    assert published.audit.list(limit=1)[0].action == "job.create"
    assert [event.message for event in published.jobs.events(job.id)] == [f"Created publish job: {job.id}"]


def test_the_bytes_stay_until_the_job_has_ended(published: Registry, make_adapter: Make) -> None:
    first, second = (queue(published, make_adapter(seed=9)) for _ in range(2))
    assert artifact_of(first) == artifact_of(second)
    published.jobs.request_cancel(first.id, "ann")
    assert discard_uploads(published) == [], "the second job still needs them"
    lease = claimed(published)
    assert discard_uploads(published) == []
    published.jobs.finish(lease, JobState.FAILED)
    assert discard_uploads(published) == [artifact_of(first)]
    assert not published.artifacts.has_folder(artifact_of(first))
    assert discard_uploads(published) == []


def test_after_publication_the_upload_goes_and_the_artifact_stays(published: Registry, make_adapter: Make) -> None:
    job = queue(published, make_adapter(seed=9))
    lease, folder = claimed(published), make_adapter(seed=9)
    draft = RevisionDraft(adapter="support", base="tiny", owner="ann")
    revision = publish(published, folder, draft, lease=lease)
    assert (published.jobs.get(job.id).state, revision.number) == (JobState.SUCCEEDED, 4)
    assert discard_uploads(published) == [artifact_of(job)]
    assert published.artifacts.folder(revision.artifact).is_dir()


def test_what_is_refused_leaves_nothing(published: Registry, base: Base, make_adapter: Make, tmp_path: Path) -> None:
    published.bases.enter(replace(base, name="other", path="/models/other", digest="f" * 64))
    before = sorted(path.name for path in (tmp_path / "artifacts" / "folders").iterdir())
    with pytest.raises(AdapterRejected, match="trained for base model 'other', not 'tiny'"):
        queue(published, make_adapter(base_model_name_or_path="other"))
    with pytest.raises(AdapterRejected, match="DoRA"):
        queue(published, make_adapter(use_dora=True))
    with pytest.raises(Conflict, match="'support' is for base model 'tiny', not 'other'"):
        queue(published, make_adapter(), base="other")
    assert published.jobs.list() == []
    assert sorted(path.name for path in (tmp_path / "artifacts" / "folders").iterdir()) == before
    assert list((tmp_path / "artifacts" / "staging").iterdir()) == []


def test_without_a_fingerprint_of_this_base_nothing_is_published(published: Registry, make_adapter: Make) -> None:
    draft = RevisionDraft(adapter="support", base="tiny", owner="ann")
    folder = make_adapter(seed=9)
    text = (folder / "fingerprint.json").read_text()
    for content, message in (
        (text.replace(published.bases.get("tiny").digest, "e" * 64), "made on a base with digest eeeeeeeeeeee"),
        (text.replace('"format": 1', '"format": 7'), "format: must be 1"),
        ("{", "is not JSON"),
    ):
        (folder / "fingerprint.json").write_text(content)
        with pytest.raises(AdapterRejected, match=rf"fingerprint\.json: .*{message}"):
            publish(published, folder, draft)
    (folder / "fingerprint.json").unlink()
    with pytest.raises(AdapterRejected, match=r"fingerprint\.json: missing"):
        publish(published, folder, draft)
    assert len(published.adapters.revisions("support")) == 3
