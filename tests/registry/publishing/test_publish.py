"""A published revision is whole, checked and numbered; a refused one leaves nothing behind."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.database import Registry
from registry.errors import AdapterRejected, ArtifactCorrupt, Conflict, LeaseLost, NotFound, RolloutOpen, StaleState
from registry.jobs.job import Lease
from registry.jobs.job_state import JobState
from registry.publishing.publish import publish
from registry.rollouts.rollout import RolloutPlan, weighted
from registry.rollouts.rollout_state import RolloutState
from registry.states import RevisionState
from registry.types import Base, RevisionDraft
from tests.registry.publishing.adapter_folders import Make, rewritten

DRAFT = RevisionDraft(adapter="support", base="tiny", owner="ann")
PLAN = RolloutPlan(steps=weighted(50, 100))


@pytest.fixture
def lease(published: Registry, spec: SupervisedSpec) -> Lease:
    """The lease of a running job that will publish `support@4`."""
    published.jobs.create(spec, "ann")
    claimed = published.jobs.claim("worker-1", 30)
    assert claimed is not None
    return claimed


def left_behind(tmp_path: Path) -> tuple[int, int]:
    """How many artifacts and how many unfinished publications there are."""
    root = tmp_path / "artifacts"
    return len(list((root / "folders").iterdir())), len(list((root / "staging").iterdir()))


def test_the_first_revision_makes_the_adapter(registry: Registry, base: Base, make_adapter: Make) -> None:
    registry.bases.enter(base)
    draft = replace(DRAFT, alias="ft:tiny:acme:support:1", provenance={"seed": 7, "loss": [1.5, 0.5]})
    revision = publish(registry, make_adapter(rank=4), draft)
    assert registry.adapters.revisions("support") == [revision]
    assert (revision.number, revision.state, revision.rank) == (1, RevisionState.READY, 4)
    assert (revision.base, revision.base_digest, revision.provenance) == ("tiny", base.digest, draft.provenance)
    assert (registry.artifacts.folder(revision.artifact) / "adapter_config.json").is_file()
    adapter = registry.adapters.get("support")
    assert (adapter.base, adapter.stable, adapter.previous_stable) == ("tiny", None, None)
    assert registry.adapters.list() == [adapter]


def test_publications_at_once_get_different_numbers(registry: Registry, base: Base, make_adapter: Make) -> None:
    registry.bases.enter(base)
    folders = [make_adapter(seed=number % 3) for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        published = list(threads.map(lambda folder: publish(registry, folder, DRAFT), folders))
    assert sorted(revision.number for revision in published) == list(range(1, 9))
    assert len({registry.artifacts.folder(revision.artifact) for revision in published}) == 3


def test_the_base_must_be_known_and_the_names_free(published: Registry, base: Base, make_adapter: Make) -> None:
    published.bases.enter(replace(base, name="other"))
    with pytest.raises(NotFound, match=r"'big'.*there are: other, tiny"):
        publish(published, make_adapter(), replace(DRAFT, base="big"))
    with pytest.raises(Conflict, match="'support' is for base model 'tiny', not 'other'"):
        publish(published, make_adapter(), replace(DRAFT, base="other"))
    with pytest.raises(Conflict, match="'other' is the name of a base model"):
        publish(published, make_adapter(), replace(DRAFT, adapter="other"))
    with pytest.raises(Conflict, match="taken by support@2"):
        publish(published, make_adapter(), replace(DRAFT, alias="ft:tiny:acme:support:2"))
    with pytest.raises(AdapterRejected, match="adapter name 'a@b'"):
        publish(published, make_adapter(), replace(DRAFT, adapter="a@b"))
    assert [adapter.name for adapter in published.adapters.list()] == ["support"]
    assert len(published.adapters.revisions("support")) == 3


def test_an_adapter_that_names_another_base_is_refused(
    published: Registry, base: Base, make_adapter: Make, tmp_path: Path
) -> None:
    published.bases.enter(replace(base, name="other", path="/models/other", digest="f" * 64))
    for claim in (
        {"base_model_name_or_path": "other"},
        {"base_model_name_or_path": "/models/other"},
        {"revision": "f" * 64},
    ):
        with pytest.raises(AdapterRejected, match="trained for base model 'other', not 'tiny'"):
            publish(published, make_adapter(seed=9, **claim), DRAFT)
    assert left_behind(tmp_path) == (3, 0)
    assert publish(published, make_adapter(base_model_name_or_path="somewhere/else"), DRAFT).number == 4


def test_a_refused_folder_leaves_nothing(published: Registry, make_adapter: Make, tmp_path: Path) -> None:
    with pytest.raises(AdapterRejected, match="DoRA"):
        publish(published, make_adapter(seed=9, use_dora=True), DRAFT)
    assert left_behind(tmp_path) == (3, 0)
    assert len(published.adapters.revisions("support")) == 3


def test_a_damaged_artifact_is_refused_and_healed_by_publishing_it_again(
    published: Registry, make_adapter: Make
) -> None:
    artifact = published.adapters.revision("support", 1).artifact
    weights = published.artifacts.folder(artifact) / "adapter_model.safetensors"
    weights.chmod(0o600)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ArtifactCorrupt):
        published.artifacts.folder(artifact)
    assert publish(published, make_adapter(seed=1), DRAFT).artifact == artifact
    assert published.artifacts.folder(artifact).is_dir()


def test_a_job_succeeds_together_with_its_revision_and_rollout(
    published: Registry, lease: Lease, make_adapter: Make
) -> None:
    draft = replace(DRAFT, alias="ft:tiny:acme:support:4")
    revision = publish(published, make_adapter(), draft, lease=lease, rollout=PLAN, trained_tokens=321)
    assert (revision.number, revision.job_id) == (4, lease.job_id)
    job = published.jobs.get(lease.job_id)
    assert (job.state, job.revision, job.fine_tuned_model) == (JobState.SUCCEEDED, 4, draft.alias)
    assert (job.trained_tokens, job.finished_at, job.worker) == (321, 1000.0, None)
    rollout = published.rollouts.open_for("support")
    assert rollout is not None
    assert (rollout.canary, rollout.stable, rollout.state, rollout.actor) == (4, 1, RolloutState.PENDING, "ann")
    assert len(published.rollouts.events(rollout.id)) == 1
    newest = [event.message for event in published.jobs.events(job.id, limit=3)]
    assert newest == [
        "The job has successfully completed",
        f"Rollout {rollout.id} of support@4 started",
        f"New fine-tuned model created: {draft.alias}",
    ]


def test_a_worker_without_the_lease_publishes_nothing(
    published: Registry, lease: Lease, make_adapter: Make, tmp_path: Path
) -> None:
    published.jobs.release(lease)
    assert published.jobs.claim("worker-2", 30) is not None
    with pytest.raises(LeaseLost, match="held by worker-2"):
        publish(published, make_adapter(seed=9), DRAFT, lease=lease, rollout=PLAN)
    assert len(published.adapters.revisions("support")) == 3
    assert published.rollouts.list() == []
    assert left_behind(tmp_path) == (3, 0)


def test_a_job_that_was_asked_to_cancel_publishes_nothing(
    published: Registry, lease: Lease, make_adapter: Make
) -> None:
    published.jobs.request_cancel(lease.job_id, "bob")
    with pytest.raises(StaleState, match="asked to cancel"):
        publish(published, make_adapter(), DRAFT, lease=lease)
    assert len(published.adapters.revisions("support")) == 3
    assert published.jobs.finish(lease, JobState.CANCELLED).revision is None


def test_without_a_stable_revision_no_rollout_begins(registry: Registry, base: Base, make_adapter: Make) -> None:
    registry.bases.enter(base)
    publish(registry, make_adapter(), DRAFT, rollout=PLAN)
    assert registry.rollouts.list() == []


def test_while_a_rollout_is_open_a_job_publishes_without_one_and_a_person_is_refused(
    published: Registry, lease: Lease, make_adapter: Make
) -> None:
    open_one = published.rollouts.start("support", 2, PLAN, "ann")
    with pytest.raises(RolloutOpen, match=open_one.id):
        publish(published, make_adapter(), DRAFT, rollout=PLAN)
    assert len(published.adapters.revisions("support")) == 3
    assert publish(published, make_adapter(), DRAFT, lease=lease, rollout=PLAN).number == 4
    assert published.rollouts.list() == [open_one]
    assert [event.level for event in published.jobs.events(lease.job_id, limit=2)] == ["info", "warn"]


def test_an_adapter_without_effect_is_not_published(published: Registry, make_adapter: Make, tmp_path: Path) -> None:
    before = left_behind(tmp_path)
    dead = rewritten(make_adapter(), lambda tensors: {n: t * ("lora_A" in n) for n, t in tensors.items()})
    with pytest.raises(AdapterRejected, match="the adapter has no effect"):
        publish(published, dead, DRAFT)
    assert left_behind(tmp_path) == before
