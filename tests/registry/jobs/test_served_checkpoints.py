"""Checkpoints are published with their job, answer by their own names until they expire, and leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.database import Registry
from registry.errors import AdapterRejected, LeaseLost, NameTaken, NotFound, NotServable
from registry.jobs.adapter_owners import Claim
from registry.jobs.job import JobError, Lease
from registry.jobs.job_state import JobState
from registry.publishing.publish import publish, publish_step
from registry.states import ReplicaState, RevisionState, SlotState
from registry.types import Replica, Revision, RevisionDraft, ServedCheckpointDraft, Slot

ALIAS = "ft:tiny:acme:support:12345678"
DRAFT = RevisionDraft(adapter="support", base="tiny", owner="ann", alias=ALIAS)
KEPT_S = 100.0


@pytest.fixture
def lease(published: Registry, spec: SupervisedSpec) -> Lease:
    """The lease of a running job with checkpoints of the steps 5, 7, 10 and 15 that will publish `support@4`."""
    published.jobs.create(spec, "ann")
    claimed = published.jobs.claim("worker-1", 30)
    assert claimed is not None
    for step in (5, 7, 10, 15):
        published.jobs.add_checkpoint(claimed, step, {"train_loss": 1.0})
    return claimed


@pytest.fixture
def revision(published: Registry, lease: Lease, make_adapter: Callable[..., Path]) -> Revision:
    """`support@4` with the checkpoints of the steps 5 and 10 beside it; it is the weights of step 15."""
    return publish(published, make_adapter(9), with_checkpoints(published, make_adapter), lease=lease)


def with_checkpoints(registry: Registry, make_adapter: Callable[..., Path]) -> RevisionDraft:
    expires_at = registry.transactions.now() + KEPT_S
    earlier = [
        ServedCheckpointDraft(
            step=step, alias=f"{ALIAS}:ckpt-step-{step}", folder=make_adapter(step + 20), expires_at=expires_at
        )
        for step in (5, 10)
    ]
    result = ServedCheckpointDraft(step=15, alias=f"{ALIAS}:ckpt-step-15", folder=None, expires_at=None)
    return replace(DRAFT, checkpoints=(*earlier, result))


def step(lease: Lease, number: int) -> str:
    return f"support@{lease.job_id[-8:]}-step-{number}"


def served(registry: Registry) -> dict[str | None, str]:
    return {each.alias: each.served_name for each in registry.snapshot().checkpoints}


def test_checkpoints_come_with_the_revision_and_take_no_number_of_the_series(
    published: Registry, lease: Lease, revision: Revision
) -> None:
    assert served(published) == {
        f"{ALIAS}:ckpt-step-5": step(lease, 5),
        f"{ALIAS}:ckpt-step-10": step(lease, 10),
        f"{ALIAS}:ckpt-step-15": "support@4",
    }
    assert [each.number for each in published.adapters.revisions("support")] == [4, 3, 2, 1]
    step_5 = published.checkpoints.find(step(lease, 5))
    assert step_5 is not None
    assert (step_5.revision, step_5.number) == ("support@4", 4)
    assert (step_5.base, step_5.rank, step_5.job_id, step_5.owner) == ("tiny", revision.rank, lease.job_id, "ann")
    assert published.artifacts.has_folder(step_5.artifact)
    assert step_5.artifact != revision.artifact
    assert published.checkpoints.find(f"{ALIAS}:ckpt-step-5") == step_5
    for unknown in (step(lease, 6), "support@4", "support", "", "-step-", "support@4-step-5"):
        assert published.checkpoints.find(unknown) is None


def test_the_list_of_a_job_that_succeeded_has_what_is_served(
    published: Registry, lease: Lease, revision: Revision
) -> None:
    assert [each.global_step for each in published.jobs.checkpoints(lease.job_id)] == [15, 10, 5]
    assert [each.step for each in published.checkpoints.of_job(lease.job_id)] == [5, 10, 15]


def test_the_list_of_a_running_job_has_every_step_that_it_can_continue_from(published: Registry, lease: Lease) -> None:
    assert [each.global_step for each in published.jobs.checkpoints(lease.job_id)] == [15, 10, 7, 5]
    assert published.checkpoints.of_job(lease.job_id) == []


def test_a_step_of_a_running_job_is_published_once_and_its_revision_takes_it_over(
    published: Registry, lease: Lease, make_adapter: Callable[..., Path]
) -> None:
    draft = with_checkpoints(published, make_adapter)
    early, result = draft.checkpoints[0], draft.checkpoints[-1]
    for _ in range(2):  # a job that was interrupted does it again
        publish_step(published, lease, DRAFT, early)
    assert served(published) == {f"{ALIAS}:ckpt-step-5": step(lease, 5)}
    found = published.checkpoints.find(step(lease, 5))
    assert found is not None
    assert (found.revision, found.number, found.owner, found.is_served) == (None, 0, "ann", True)
    assert [each.global_step for each in published.jobs.checkpoints(lease.job_id)] == [15, 10, 7, 5]
    publish(published, make_adapter(9), replace(DRAFT, checkpoints=(result,)), lease=lease)
    assert [each.revision for each in published.checkpoints.of_job(lease.job_id)] == ["support@4", "support@4"]
    assert [each.global_step for each in published.jobs.checkpoints(lease.job_id)] == [15, 5]


def test_steps_of_a_job_that_failed_answer_on_and_keep_their_name_from_others(
    published: Registry, spec: SupervisedSpec, make_adapter: Callable[..., Path], advance: Callable[[float], None]
) -> None:
    first, second = (Claim(tenant=tenant, shares=False, may_take_any=False) for tenant in ("red", "blue"))
    other = spec.model_copy(update={"adapter": "tone"})
    published.jobs.create(other, "ann", first)
    lease = published.jobs.claim("worker-1", 30)
    assert lease is not None
    published.jobs.add_checkpoint(lease, 5, {})
    published.jobs.add_checkpoint(lease, 7, {})
    early = with_checkpoints(published, make_adapter).checkpoints[0]
    publish_step(published, lease, replace(DRAFT, adapter="tone"), early)
    published.jobs.finish(lease, JobState.FAILED, JobError(code="diverged", message="nan"))
    assert [each.global_step for each in published.jobs.checkpoints(lease.job_id)] == [5]
    with pytest.raises(NameTaken):
        published.jobs.create(other, "bob", second)
    with pytest.raises(LeaseLost):
        publish_step(published, lease, replace(DRAFT, adapter="tone"), early)
    advance(KEPT_S)
    published.checkpoints.expire(published.snapshot().checkpoints)
    assert published.jobs.create(other, "bob", second).tenant == "blue"


def test_a_checkpoint_that_is_refused_publishes_nothing(
    published: Registry, lease: Lease, make_adapter: Callable[..., Path]
) -> None:
    draft = with_checkpoints(published, make_adapter)
    assert draft.checkpoints[1].folder is not None
    (draft.checkpoints[1].folder / "fingerprint.json").unlink()
    with pytest.raises(AdapterRejected, match="fingerprint"):
        publish(published, make_adapter(9), draft, lease=lease)
    assert served(published) == {}
    assert len(published.adapters.revisions("support")) == 3


def test_a_checkpoint_expires_and_its_bytes_go_once_no_replica_has_it(
    published: Registry, lease: Lease, revision: Revision, advance: Callable[[float], None]
) -> None:
    early, late = step(lease, 5), step(lease, 10)
    artifacts = {each.served_name: each.artifact for each in published.snapshot().checkpoints}
    load(published, early)
    advance(KEPT_S - 1)
    assert published.checkpoints.expire(published.snapshot().checkpoints) == []
    advance(1)
    expired = published.checkpoints.expire(published.snapshot().checkpoints)
    assert expired == [early, late]
    assert list(served(published)) == [f"{ALIAS}:ckpt-step-15"]
    actions = [(entry.actor, entry.action, entry.subject) for entry in published.audit.list(limit=2)]
    assert ("controller", "checkpoint.expire", f"{ALIAS}:ckpt-step-10") in actions
    discard = published.checkpoints.discard_retired
    assert discard(published.artifacts, published.replicas.list()) == [late]
    assert not published.artifacts.has_folder(artifacts[late])
    assert published.artifacts.has_folder(artifacts[early])
    load(published)
    assert discard(published.artifacts, published.replicas.list()) == [early]
    assert not published.artifacts.has_folder(artifacts[early])
    assert published.artifacts.has_folder(revision.artifact)
    assert discard(published.artifacts, published.replicas.list()) == []


def test_a_checkpoint_is_retired_once_by_either_name(published: Registry, lease: Lease, revision: Revision) -> None:
    early, late = step(lease, 5), step(lease, 10)
    retired = published.checkpoints.retire(f"{ALIAS}:ckpt-step-5", "ann")
    assert retired.state is RevisionState.RETIRED
    published.checkpoints.retire(late, "ann")
    assert list(served(published)) == [f"{ALIAS}:ckpt-step-15"]
    with pytest.raises(NotServable, match="retired already"):
        published.checkpoints.retire(early, "ann")
    with pytest.raises(NotFound, match="-step-7"):
        published.checkpoints.retire(step(lease, 7), "ann")


def load(registry: Registry, *served_names: str) -> None:
    registry.replicas.report(
        Replica(
            id="r1",
            base="tiny",
            engine="transformers",
            url="",
            state=ReplicaState.READY,
            capacity=4,
            slots=tuple(Slot(served_name=name, state=SlotState.READY) for name in served_names),
            message="",
            started_at=0.0,
            heartbeat_at=0.0,
        )
    )
