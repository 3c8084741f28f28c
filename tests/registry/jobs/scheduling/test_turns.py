"""The place of a job in the queue is the order of the claims, and its times follow from the jobs before it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.database import Registry
from registry.jobs.adapter_owners import Claim
from registry.jobs.job_state import JobState
from registry.jobs.scheduling.forecast import DeviceRoom, HeldJob, QueuedJob, Turn, forecast
from registry.jobs.scheduling.room import QueueEntry, TrainerWorker
from registry.states import Priority


def entered(registry: Registry, spec: SupervisedSpec, tenant: str, priority: Priority, entry: QueueEntry) -> str:
    claim = Claim(tenant=tenant, shares=False, may_take_any=False)
    asked = spec.model_copy(update={"adapter": f"{tenant}-adapter", "priority": priority})
    return registry.jobs.create(asked, tenant, claim, entry).id


def test_turns_tell_the_order_of_the_claims_and_when_they_come(registry: Registry, spec: SupervisedSpec) -> None:
    registry.workers.report(TrainerWorker(name="w1", device="cpu", total_bytes=None))
    running = entered(registry, spec, "red", Priority.NORMAL, QueueEntry(expected_s=300.0))
    assert registry.jobs.claim("w1", 30.0) is not None
    first = entered(registry, spec, "red", Priority.NORMAL, QueueEntry(expected_s=200.0))
    blue = entered(registry, spec, "blue", Priority.NORMAL, QueueEntry(expected_s=100.0))
    urgent = entered(registry, spec, "red", Priority.HIGH, QueueEntry(expected_s=50.0))
    last = entered(registry, spec, "red", Priority.HIGH, QueueEntry(expected_s=10.0, after=(first,)))
    turns = registry.jobs.turns()
    assert registry.jobs.get(running).expected_finish == 1300.0
    assert [(job_id, turn.place, turn.starts_at, turn.ends_at) for job_id, turn in turns.items()] == [
        (urgent, 1, 1300.0, 1350.0),
        (blue, 2, 1350.0, 1450.0),
        (first, 3, 1450.0, 1650.0),
        (last, 4, 1650.0, 1660.0),
    ]


def test_without_a_worker_a_turn_has_a_place_but_no_time(registry: Registry, spec: SupervisedSpec) -> None:
    job_id = entered(registry, spec, "red", Priority.NORMAL, QueueEntry(expected_s=10.0))
    assert registry.jobs.turns() == {job_id: Turn(place=1, starts_at=None, ends_at=None)}


def test_a_job_of_which_nothing_is_known_takes_as_long_as_jobs_do(
    registry: Registry, spec: SupervisedSpec, advance: Callable[[float], None]
) -> None:
    registry.workers.report(TrainerWorker(name="w1", device="cpu", total_bytes=None))
    done = entered(registry, spec, "red", Priority.NORMAL, QueueEntry())
    lease = registry.jobs.claim("w1", 30.0)
    assert lease is not None
    advance(40)
    registry.jobs.finish(lease, JobState.SUCCEEDED)
    assert registry.jobs.get(done).state is JobState.SUCCEEDED
    first, second = (entered(registry, spec, "red", Priority.NORMAL, QueueEntry()) for _ in range(2))
    turns = registry.jobs.turns()
    assert [turns[each].starts_at for each in (first, second)] == [1040.0, 1080.0]


def test_a_turn_comes_when_the_device_has_room_and_smaller_jobs_go_before(
    registry: Registry, spec: SupervisedSpec
) -> None:
    for name, total in (("large", 100), ("small", 40)):
        registry.workers.report(TrainerWorker(name=name, device="gpu", total_bytes=total, places=2))
    entered(registry, spec, "red", Priority.NORMAL, QueueEntry(expected_s=300.0, needed_bytes=60))
    assert registry.jobs.claim("large", 30.0) is not None
    whole = entered(registry, spec, "red", Priority.NORMAL, QueueEntry(expected_s=50.0, needed_bytes=90))
    half = entered(registry, spec, "red", Priority.NORMAL, QueueEntry(expected_s=20.0, needed_bytes=35))
    again = entered(registry, spec, "red", Priority.NORMAL, QueueEntry(expected_s=10.0, needed_bytes=38))
    never = entered(registry, spec, "red", Priority.NORMAL, QueueEntry(expected_s=10.0, needed_bytes=100))
    registry.workers.report(TrainerWorker(name="large", device="gpu", total_bytes=99, places=2))
    turns = registry.jobs.turns()
    assert [(job_id, turn.starts_at) for job_id, turn in turns.items()] == [
        (half, 1000.0),
        (again, 1000.0),
        (whole, 1300.0),
        (never, None),
    ]
    for job_id, worker in ((half, "large"), (again, "small")):
        lease = registry.jobs.claim(worker, 30.0)
        assert (lease and lease.job_id) == job_id, "as the claims come"


@st.composite
def queues(draw: st.DrawFn) -> list[QueuedJob]:
    """Jobs in the order of their entry, each of which may come after earlier ones."""
    jobs: list[QueuedJob] = []
    for seq in range(draw(st.integers(1, 25))):
        after = draw(st.sets(st.integers(0, seq - 1), max_size=2)) if seq else set()
        jobs.append(
            QueuedJob(
                id=str(seq),
                priority=draw(st.integers(0, 2)),
                tenant=draw(st.sampled_from("abc")),
                seq=seq,
                expected_s=draw(st.none() | st.floats(1, 1000)),
                not_before=draw(st.sampled_from([0.0, 200.0])),
                after=frozenset(map(str, after)),
            )
        )
    return jobs


@given(queues(), st.lists(st.none() | st.floats(0, 500), max_size=3), st.integers(0, 3))
def test_every_job_has_one_place_and_none_begins_before_what_it_waits_for(
    waiting: list[QueuedJob], ends: list[float | None], idle: int
) -> None:
    now = 100.0
    running = [HeldJob(id=f"running-{number}", worker="unknown", ends_at=at) for number, at in enumerate(ends)]
    turns = forecast(waiting, running, {"w": DeviceRoom(places=idle, free_bytes=None)}, {"a": 50.0}, now)
    assert sorted(turn.place for turn in turns.values()) == list(range(1, len(waiting) + 1))
    starts = [(turn.starts_at, turn.ends_at) for turn in turns.values() if turn.starts_at is not None]
    for job in waiting:
        turn = turns[job.id]
        if turn.starts_at is None:
            continue
        assert turn.starts_at >= max(now, job.not_before)
        assert turn.ends_at == (None if job.expected_s is None else turn.starts_at + job.expected_s)
        for first in job.after:
            before = turns[first]
            assert before.place < turn.place
            assert before.ends_at is not None
            assert before.ends_at <= turn.starts_at
        # At no moment more jobs are expected to run than there are places.
        at = turn.starts_at
        assert sum(begin <= at and (end is None or end > at) for begin, end in starts) <= idle + len(ends)


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab")), min_size=1, max_size=12))
def test_with_one_worker_places_are_by_priority_and_owners_take_turns(wanted: list[tuple[int, str]]) -> None:
    waiting = [
        QueuedJob(id=str(seq), priority=priority, tenant=tenant, seq=seq, expected_s=100.0, not_before=0.0)
        for seq, (priority, tenant) in enumerate(wanted)
    ]
    turns = forecast(waiting, [], {"w": DeviceRoom(places=1, free_bytes=None)}, {}, 0.0)
    order = sorted(waiting, key=lambda job: turns[job.id].place)
    assert [job.priority for job in order] == sorted(job.priority for job in waiting)
    uses = {"a": 0.0, "b": 0.0}
    for number, job in enumerate(order):
        others = {later.tenant for later in order[number:] if later.priority == job.priority}
        assert uses[job.tenant] == min(uses[each] for each in others)
        uses[job.tenant] += 100.0


@pytest.mark.parametrize("state", ["queued", "running"])
def test_the_queue_is_not_read_where_nothing_waits(registry: Registry, spec: SupervisedSpec, state: str) -> None:
    entered(registry, spec, "red", Priority.NORMAL, QueueEntry())
    if state == "running":
        assert registry.jobs.claim("w1", 30.0) is not None
    assert bool(registry.jobs.turns()) is (state == "queued")
