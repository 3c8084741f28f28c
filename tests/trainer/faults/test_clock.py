"""The clock on the wall is set forward and back while a job works: nothing ends early, and nothing is done twice."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from registry.database import Registry, open_registry
from registry.jobs.job_state import JobState
from registry.settings import RegistrySettings
from tests.trainer.attempts import LONG, LONG_STEPS, TIMEOUT_S, MakeJob, loss_curve, suspended
from tests.trainer.forks.forked_children import ForkedChildren
from tests.waiting import wait_for
from trainer.settings import TrainerSettings

pytestmark = pytest.mark.trains

DAY_S = 86400.0


class SetClock:
    """A clock that runs, and that can be set."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def worker_registry(home: Path, registry: Registry, clock: SetClock) -> Iterator[Registry]:
    """The registry as a worker opens it whose machine's clock is *clock*."""
    opened = open_registry(
        RegistrySettings(url=f"sqlite:///{home / 'registry.db'}", artifacts=home / "artifacts"), now=clock
    )
    yield opened
    opened.close()


@pytest.mark.parametrize("jumps", [(DAY_S, 0.0), (-DAY_S, 0.0), (DAY_S, -DAY_S)], ids=["forward", "back", "both"])
def test_a_job_ends_once_as_if_the_clock_had_not_been_set(
    registry: Registry,
    worker_registry: Registry,
    settings: TrainerSettings,
    forks: ForkedChildren,
    make_job: MakeJob,
    clock: SetClock,
    jumps: Sequence[float],
) -> None:
    job = make_job(**LONG)
    limited = settings.model_copy(update={"max_job_s": TIMEOUT_S})
    reached = 0
    with forks.working(worker_registry, limited) as (attempt, _):
        for jump in jumps:
            with suspended(forks.process, settings.work / job.id, reached):
                clock.ahead_s = jump
                before = registry.jobs.get(job.id).lease_expires_at
                wait_for(lambda before=before: registry.jobs.get(job.id).lease_expires_at != before, TIMEOUT_S)  # type: ignore[misc]
                assert registry.jobs.expire_leases() == []
            reached += 20
        wait_for(lambda: registry.jobs.expire_leases() or attempt.done(), TIMEOUT_S)
    ended = registry.jobs.get(job.id)
    assert (ended.state, ended.attempt, ended.error) == (JobState.SUCCEEDED, 1, None)
    assert [revision.job_id for revision in registry.adapters.revisions("support")] == [job.id]
    assert sorted(loss_curve(registry, job.id)) == list(range(1, LONG_STEPS + 1))
