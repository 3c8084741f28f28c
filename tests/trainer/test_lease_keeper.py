"""A job stays with a worker that is busy for longer than its lease."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.database import Registry, open_registry
from registry.jobs.job_state import JobState
from registry.settings import RegistrySettings
from tests.clock import Clock
from tests.trainer.attempts import MakeJob
from tests.waiting import wait_for
from trainer.lease_keeper import renewed
from trainer.settings import TrainerSettings

LEASE_S = 30.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def clocked(registry: Registry, home: Path, clock: Clock) -> Iterator[Registry]:
    """The registry as a process opens it whose clock is *clock*."""
    settings = RegistrySettings(url=f"sqlite:///{home / 'registry.db'}", artifacts=home / "artifacts")
    opened = open_registry(settings, clock, clock.steady)
    yield opened
    opened.close()


def test_a_lease_is_renewed_while_something_takes_long_and_not_after_it(
    clocked: Registry, clock: Clock, settings: TrainerSettings, make_job: MakeJob
) -> None:
    make_job()
    lease = clocked.jobs.claim("w1", LEASE_S)
    assert lease is not None
    with renewed(clocked.jobs, lease, settings.model_copy(update={"poll_s": 0.02, "lease_s": LEASE_S})):
        for _ in range(4):
            clock.advance(0.6 * LEASE_S)
            wait_for(lambda: clocked.jobs.get(lease.job_id).lease_expires_at == clock() + LEASE_S)
            assert clocked.jobs.expire_leases() == []
    clock.advance(1.1 * LEASE_S)
    assert clocked.jobs.expire_leases() == [lease.job_id]


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
