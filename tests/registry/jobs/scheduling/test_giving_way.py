"""A running job stops for a more urgent one where there is no room otherwise, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.database import Registry
from registry.jobs.job import Lease
from registry.jobs.job_phase import JobPhase
from registry.jobs.job_state import JobState
from registry.jobs.scheduling.giving_way import (
    MOST_TIMES,
    WAITED_S,
    GiveWayRules,
    RunningJob,
    WaitingJob,
    choose_to_give_way,
)
from registry.jobs.scheduling.room import TrainerWorker
from registry.states import Priority

RULES = GiveWayRules(least_run_s=60.0, least_left_s=120.0)
RAN = 100.0


class Story:
    """A worker that trains a job of a low priority."""

    def __init__(self, registry: Registry, spec: SupervisedSpec, advance: Callable[[float], None]) -> None:
        self.jobs = registry.jobs
        self.spec = spec
        self.advance = advance

    def put(self, priority: Priority) -> str:
        return self.jobs.create(self.spec.model_copy(update={"priority": priority}), "ann").id

    def begin(self, priority: Priority = Priority.LOW) -> Lease:
        """Queue and claim a job, and let it run for `RAN` seconds."""
        self.put(priority)
        lease = self.jobs.claim("w1", 30.0)
        assert lease is not None
        self.advance(RAN)
        return lease

    def urgent(self, priority: Priority = Priority.HIGH) -> str:
        """Queue a job that nobody claims in time."""
        job_id = self.put(priority)
        self.advance(WAITED_S)
        return job_id

    def ask(self) -> list[str]:
        return [*self.jobs.ask_to_give_way(RULES)]


@pytest.fixture
def story(registry: Registry, spec: SupervisedSpec, advance: Callable[[float], None]) -> Story:
    return Story(registry, spec, advance)


def test_a_job_gives_way_at_a_checkpoint_and_goes_on_later(story: Story) -> None:
    lease = story.begin()
    assert story.ask() == []
    urgent = story.urgent()
    assert story.ask() == [lease.job_id]
    assert story.ask() == [], "it was asked already"
    assert story.jobs.renew(lease, 30.0).gives_way_to == urgent
    given_back = story.jobs.release(lease)
    assert (given_back.state, given_back.gives_way_to) == (JobState.QUEUED, None)
    texts = [event.message for event in story.jobs.events(lease.job_id)]
    assert texts[:2] == [
        "Gave way to a job of a higher priority; the job goes on from its checkpoint later",
        "Asked to give way at a checkpoint to a job of a higher priority",
    ]
    claimed = [story.jobs.claim("w1", 30.0) for _ in range(2)]
    assert [each and each.job_id for each in claimed] == [urgent, lease.job_id]


def test_a_job_of_an_equal_or_lower_priority_displaces_nothing(story: Story) -> None:
    story.begin(Priority.NORMAL)
    for priority in (Priority.NORMAL, Priority.LOW):
        story.urgent(priority)
        assert story.ask() == []


def test_nothing_gives_way_while_a_worker_is_idle(story: Story, registry: Registry) -> None:
    for name in ("w1", "w2"):
        registry.workers.report(TrainerWorker(name=name, device="cpu", total_bytes=None))
    lease = story.begin()
    story.urgent()
    assert story.ask() == []
    registry.workers.leave("w2")
    assert story.ask() == [lease.job_id]


def test_a_job_goes_on_when_the_urgent_one_no_longer_waits(story: Story) -> None:
    lease = story.begin()
    urgent = story.urgent()
    assert story.ask() == [lease.job_id]
    story.jobs.request_cancel(urgent, "ann")
    assert story.jobs.renew(lease, 30.0).gives_way_to is None


def _is_new(story: Story, lease: Lease) -> None:
    story.jobs.release(lease)
    assert story.jobs.claim("w1", 30.0) is not None


def _ends_soon(story: Story, lease: Lease) -> None:
    finish_at = (story.jobs.get(lease.job_id).claimed_at or 0.0) + RAN + WAITED_S + RULES.least_left_s - 1
    story.jobs.note_progress(lease, trained_tokens=1, estimated_finish=finish_at)


def _is_at_its_end(story: Story, lease: Lease) -> None:
    story.jobs.enter_phase(lease, JobPhase.FINISHING, 0.0)


def _is_paused(story: Story, lease: Lease) -> None:
    story.jobs.request_pause(lease.job_id)


def _is_cancelled(story: Story, lease: Lease) -> None:
    story.jobs.request_cancel(lease.job_id, "ann")


@pytest.mark.parametrize("protect", [_is_new, _ends_soon, _is_at_its_end, _is_paused, _is_cancelled])
def test_a_job_is_not_asked_where_that_would_gain_little(story: Story, protect: Callable[[Story, Lease], None]) -> None:
    lease = story.begin()
    protect(story, lease)
    story.urgent()
    assert story.ask() == []


def test_a_job_gives_way_a_few_times_only(story: Story) -> None:
    lease, times = story.begin(), 0
    while True:
        story.urgent()
        if story.ask() == []:
            break
        times += 1
        story.jobs.release(lease)
        urgent = story.jobs.claim("w1", 30.0)
        assert urgent is not None
        story.jobs.finish(urgent, JobState.FAILED)
        again = story.jobs.claim("w1", 30.0)
        assert again is not None
        assert again.job_id == lease.job_id
        lease = again
        story.advance(RAN)
    assert times == MOST_TIMES


def running(number: int, priority: int, worker: str, needed: int | None, *, may_be_asked: bool) -> RunningJob:
    return RunningJob(
        id=f"job-{number}",
        priority=priority,
        worker=worker,
        needed_bytes=needed,
        claimed_at=float(number),
        may_be_asked=may_be_asked,
        gives_way_to=None,
    )


sizes = st.none() | st.integers(1, 8)
held = st.tuples(st.integers(0, 2), st.sampled_from(["w1", "w2"]), sizes, st.booleans())


@given(
    st.lists(held, max_size=5),
    st.lists(st.tuples(st.integers(0, 2), sizes), max_size=4),
    st.dictionaries(st.sampled_from(["w1", "w2"]), st.tuples(st.integers(1, 3), st.integers(1, 8))),
)
def test_whoever_gives_way_is_less_urgent_may_be_asked_and_makes_the_room(
    jobs: list[tuple[int, str, int | None, bool]],
    wanted: list[tuple[int, int | None]],
    devices: Mapping[str, tuple[int, int]],
) -> None:
    now = 1000.0
    present = [running(number, p, w, needed, may_be_asked=may) for number, (p, w, needed, may) in enumerate(jobs)]
    waiting = [
        WaitingJob(id=f"wait-{number}", priority=priority, needed_bytes=needed, queued_at=0.0)
        for number, (priority, needed) in enumerate(sorted(wanted, key=lambda each: each[0]))
    ]
    workers = [
        TrainerWorker(
            name=name,
            device="cpu",
            total_bytes=total,
            free_bytes=max(0, total - sum(job.needed_bytes or 0 for job in present if job.worker == name)),
            places=places,
        )
        for name, (places, total) in devices.items()
    ]
    chosen = choose_to_give_way(waiting, present, workers, now)
    by_id = {job.id: job for job in present}
    for job in waiting:
        victims = [by_id[each] for each, gives_way_to in chosen.items() if gives_way_to == job.id]
        assert all(victim.may_be_asked and victim.priority > job.priority for victim in victims)
        assert len({victim.worker for victim in victims}) <= 1, "a job runs on one device"
        if victims and job.needed_bytes is not None and victims[0].worker in devices:
            (device,) = (each for each in workers if each.name == victims[0].worker)
            freed = sum(victim.needed_bytes or 0 for victim in victims)
            is_empty = len(victims) == len([each for each in present if each.worker == device.name])
            assert job.needed_bytes <= ((device.total_bytes or 0) if is_empty else (device.free_bytes or 0) + freed)
