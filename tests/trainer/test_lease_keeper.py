"""A job stays with a worker that is busy for longer than its lease."""

from __future__ import annotations

from registry.database import Registry
from registry.jobs.job import JobState
from tests.trainer.attempts import MakeJob
from tests.waiting import wait_for
from trainer.lease_keeper import renewed
from trainer.settings import TrainerSettings


def test_a_lease_is_renewed_while_something_takes_long_and_not_after_it(
    registry: Registry, settings: TrainerSettings, make_job: MakeJob
) -> None:
    make_job()
    brief = settings.model_copy(update={"poll_s": 0.02, "lease_s": 0.2})
    lease = registry.jobs.claim("w1", brief.lease_s)
    assert lease is not None
    first = registry.jobs.get(lease.job_id).lease_expires_at
    assert first is not None
    with renewed(registry.jobs, lease, brief):
        wait_for(lambda: (registry.jobs.get(lease.job_id).lease_expires_at or 0.0) > first + 2 * brief.lease_s)
        assert registry.jobs.expire_leases() == []
    wait_for(lambda: registry.jobs.expire_leases() == [lease.job_id])


def test_a_job_that_was_given_up_meanwhile_is_not_renewed(
    registry: Registry, settings: TrainerSettings, make_job: MakeJob
) -> None:
    make_job()
    lease = registry.jobs.claim("w1", 30.0)
    assert lease is not None
    with renewed(registry.jobs, lease, settings.model_copy(update={"poll_s": 0.02})):
        registry.jobs.release(lease)
        wait_for(lambda: registry.jobs.claim("w2", 30.0) is not None)
    job = registry.jobs.get(lease.job_id)
    assert (job.state, job.worker) == (JobState.RUNNING, "w2")
