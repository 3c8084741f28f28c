"""The order of the queue: priority, fair shares, dependencies, and room on the worker's device."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.database import Registry, open_registry
from registry.errors import DependencyRefused, JobTooLarge
from registry.jobs.adapter_owners import Claim
from registry.jobs.job import Lease
from registry.jobs.job_moves import JobNote
from registry.jobs.job_state import JobState
from registry.jobs.lease_expiry import LONGEST_PAUSE_S, pause_after
from registry.jobs.scheduling.claims import PASSED_S, Fit, Head, in_order
from registry.jobs.scheduling.room import ANY_ROOM, QueueEntry, Room, TrainerWorker
from registry.schema import migrate
from registry.settings import RegistrySettings
from registry.states import Priority
from tests.clock import Clock

GB = 10**9
NOTE = JobNote(message="done")


class Queue:
    """Makes and claims jobs, named by what they are for."""

    def __init__(self, registry: Registry, spec: SupervisedSpec) -> None:
        self.registry = registry
        self.spec = spec
        self.names: dict[str, str] = {}

    def put(self, name: str, tenant: str = "red", entry: QueueEntry | None = None, **fields: object) -> str:
        """Queue a job of *tenant* and return its id."""
        spec = self.spec.model_copy(update={"adapter": f"{tenant}-adapter", **fields})
        claim = Claim(tenant=tenant, shares=False, may_take_any=False)
        job = self.registry.jobs.create(spec, tenant, claim, entry or QueueEntry())
        self.names[job.id] = name
        return job.id

    def claim(self, room: Room = ANY_ROOM, worker: str = "w1") -> Lease:
        """Claim a job, which must be there."""
        lease = self.registry.jobs.claim(worker, 30.0, room)
        assert lease is not None
        return lease

    def next(self, room: Room = ANY_ROOM, worker: str = "w1") -> str | None:
        """Claim a job and return its name; None where there is none."""
        lease = self.registry.jobs.claim(worker, 30.0, room)
        return None if lease is None else self.names[lease.job_id]

    def rest(self) -> list[str]:
        """Claim all jobs."""
        return list(iter(self.next, None))


@pytest.fixture
def queue(registry: Registry, spec: SupervisedSpec) -> Queue:
    return Queue(registry, spec)


def test_the_owner_with_the_least_use_goes_first_among_equal_priorities(queue: Queue) -> None:
    for name in ("red 1", "red 2", "red 3"):
        queue.put(name, "red")
    for name in ("blue 1", "blue 2"):
        queue.put(name, "blue")
    queue.put("urgent", "red", priority=Priority.HIGH)
    # A running job counts for its owner at once, so that owners take turns.
    assert queue.rest() == ["urgent", "blue 1", "red 1", "blue 2", "red 2", "red 3"]


def test_a_use_counts_half_as_much_each_day(queue: Queue, advance: Callable[[float], None]) -> None:
    queue.put("long", "red")
    queue.put("short", "blue")
    long, short = queue.claim(), queue.claim()
    advance(600)
    queue.registry.jobs.finish(short, JobState.FAILED)
    advance(600)
    queue.registry.jobs.finish(long, JobState.FAILED)
    for tenant in ("red", "blue"):
        queue.put(tenant, tenant)
    assert queue.next() == "blue", "red has used twice as much"
    advance(86400 * 11)
    queue.put("blue again", "blue")
    assert queue.rest() == ["red", "blue again"], "what was used long ago is forgotten"


def test_a_job_waits_until_all_before_it_succeeded(queue: Queue) -> None:
    first, second = queue.put("first"), queue.put("second")
    queue.put("last", entry=QueueEntry(after=(first, second, first)))
    leases = [queue.claim(), queue.claim()]
    assert queue.next() is None
    for lease in leases:
        assert queue.next() is None
        queue.registry.jobs.succeed(lease, NOTE)
    assert queue.next() == "last"


@pytest.mark.parametrize("ending", [JobState.FAILED, JobState.CANCELLED])
def test_a_job_fails_with_the_one_before_it_and_takes_those_behind_it_along(queue: Queue, ending: JobState) -> None:
    jobs = queue.registry.jobs
    first = queue.put("first")
    second = queue.put("second", entry=QueueEntry(after=(first,)))
    third = queue.put("third", entry=QueueEntry(after=(second,)))
    jobs.request_pause(second)
    if ending is JobState.CANCELLED:
        jobs.request_cancel(first, "ann")
    else:
        jobs.finish(queue.claim(), JobState.FAILED)
    for job_id, before in ((second, first), (third, second)):
        job = jobs.get(job_id)
        assert job.state is JobState.FAILED
        assert job.error is not None
        assert (job.error.code, job.error.param) == ("dependency_failed", "after")
        assert before in job.error.message
        assert jobs.events(job_id)[0].message == job.error.message
    for unusable in (first, third):
        with pytest.raises(DependencyRefused, match=f"job {unusable} has"):
            queue.put("late", entry=QueueEntry(after=(unusable,)))


def test_a_job_waits_only_for_jobs_that_its_owner_sees(queue: Queue) -> None:
    hidden = queue.put("hidden", "blue")
    for job_id in (hidden, "ftjob-none"):
        with pytest.raises(DependencyRefused, match=f"there is no job '{job_id}'"):
            queue.put("curious", "red", entry=QueueEntry(after=(job_id,)))
    assert [job.id for job in queue.registry.jobs.list()] == [hidden], "a refused job leaves nothing"


def test_a_worker_gets_only_what_fits_beside_its_jobs(queue: Queue) -> None:
    queue.put("large", entry=QueueEntry(needed_bytes=9 * GB))
    queue.put("small", entry=QueueEntry(needed_bytes=2 * GB))
    queue.put("unknown")
    room = Room(total_bytes=8 * GB, free_bytes=3 * GB)
    assert [queue.next(room) for _ in range(3)] == ["small", "unknown", None]
    assert queue.next(Room(total_bytes=9 * GB, free_bytes=9 * GB)) == "large"


def test_what_a_worker_holds_is_taken_off_what_it_reported(queue: Queue) -> None:
    queue.registry.workers.report(TrainerWorker(name="w1", device="cpu", total_bytes=8 * GB))
    for name in ("first", "second", "third"):
        queue.put(name, entry=QueueEntry(needed_bytes=3 * GB))
    assert [queue.next() for _ in range(3)] == ["first", "second", None]
    queue.registry.workers.report(TrainerWorker(name="w1", device="cpu", total_bytes=8 * GB))
    assert [worker.free_bytes for worker in queue.registry.workers.list()] == [2 * GB]
    assert queue.next(worker="w2") == "third", "nothing is known of this worker's device"


def test_light_jobs_beside_each_other_need_what_they_share_once(queue: Queue) -> None:
    report = TrainerWorker(name="w1", device="cpu", total_bytes=8 * GB)
    queue.registry.workers.report(report)
    for name in ("first", "second", "third", "fourth"):
        queue.put(name, base_digest="2" * 64, entry=QueueEntry(needed_bytes=6 * GB, shared_bytes=5 * GB))
    assert [queue.next(), queue.next()] == ["first", None], "in a process of its own the second has no room"
    beside = Room(beside="2" * 64)
    assert [queue.next(beside) for _ in range(3)] == ["second", "third", None]
    queue.registry.workers.report(report)
    assert [worker.free_bytes for worker in queue.registry.workers.list()] == [0]
    assert [turn.place for turn in queue.registry.jobs.turns().values()] == [1]


def test_beside_light_jobs_only_light_jobs_of_their_base_are_claimed(queue: Queue) -> None:
    queue.put("other base", base_digest="1" * 64)
    queue.put("heavy", base_digest="2" * 64, lora=queue.spec.lora.model_copy(update={"dropout": 0.5}))
    queue.put("light", base_digest="2" * 64)
    beside = Room(beside="2" * 64)
    assert [queue.next(beside) for _ in range(2)] == ["light", None]


def test_light_jobs_do_not_join_where_a_job_apart_is_more_urgent_or_waits_long(
    queue: Queue, advance: Callable[[float], None]
) -> None:
    beside = Room(beside="2" * 64)
    queue.put("light 1", base_digest="2" * 64)
    queue.put("urgent", base_digest="1" * 64, priority=Priority.HIGH)
    assert queue.next(beside) is None
    assert [queue.next(), queue.next(beside)] == ["urgent", "light 1"]
    queue.put("apart", base_digest="1" * 64)
    queue.put("light 2", base_digest="2" * 64)
    queue.put("light 3", base_digest="2" * 64)
    assert queue.next(beside) == "light 2"
    advance(PASSED_S + 1)
    assert queue.next(beside) is None
    assert queue.rest() == ["apart", "light 3"]


def test_a_worker_that_wants_one_job_gets_no_other(queue: Queue) -> None:
    first, second = queue.put("first"), queue.put("second")
    jobs = queue.registry.jobs
    seen = jobs.first("w1", ANY_ROOM)
    assert seen is not None
    assert (seen.id, seen.state) == (first, JobState.QUEUED)
    assert queue.next(Room(only=second)) == "second"
    assert queue.next(Room(only=second)) is None
    assert queue.next(Room(without=frozenset({first}))) is None
    assert queue.next() == "first"
    assert jobs.first("w1", ANY_ROOM) is None


def test_a_large_job_is_not_passed_over_for_ever(queue: Queue, advance: Callable[[float], None]) -> None:
    queue.put("large", entry=QueueEntry(needed_bytes=9 * GB))
    for name in ("small 1", "small 2"):
        queue.put(name, entry=QueueEntry(needed_bytes=1 * GB))
    room = Room(total_bytes=9 * GB, free_bytes=8 * GB)
    for name, free in (("w1", 8 * GB), ("w2", 5 * GB)):
        queue.registry.workers.report(TrainerWorker(name=name, device="cpu", total_bytes=9 * GB, free_bytes=free))
    assert queue.next(room) == "small 1"
    advance(PASSED_S + 1)
    assert queue.next(room, "w1") is None, "its device is let run empty for the large job"
    assert queue.next(room, "w2") == "small 2", "one device is enough for that"
    assert queue.next(Room(total_bytes=9 * GB, free_bytes=9 * GB)) == "large"


def test_a_job_of_a_base_in_memory_goes_before_older_ones_of_its_owner(
    queue: Queue, advance: Callable[[float], None]
) -> None:
    queue.put("other base", base_digest="1" * 64)
    queue.put("resident base", base_digest="2" * 64)
    queue.put("other owner", "blue", base_digest="3" * 64)
    room = Room(resident=frozenset({"2" * 64}))
    assert [queue.next(room) for _ in range(3)] == ["resident base", "other owner", "other base"]
    queue.put("waits long", base_digest="1" * 64)
    advance(PASSED_S + 1)
    queue.put("resident again", base_digest="2" * 64)
    assert [queue.next(room) for _ in range(2)] == ["waits long", "resident again"]


def test_a_job_that_no_worker_could_hold_is_refused_with_the_numbers(queue: Queue) -> None:
    entry = QueueEntry(needed_bytes=12 * GB)
    early = queue.put("early", entry=entry)
    notes = [event.message for event in queue.registry.jobs.events(early)]
    assert any("12.00 GB" in note and "no worker of the trainer is known yet" in note for note in notes)
    for name, total in (("w1", 8 * GB), ("w2", 10 * GB)):
        queue.registry.workers.report(TrainerWorker(name=name, device="cpu", total_bytes=total, free_bytes=total))
    with pytest.raises(JobTooLarge, match=r"12\.00 GB .* cpu has 8\.00 GB, cpu has 10\.00 GB"):
        queue.put("late", entry=entry)
    queue.registry.workers.report(TrainerWorker(name="w3", device="gpu", total_bytes=None, free_bytes=None))
    assert queue.put("fits perhaps", entry=entry)


def test_a_worker_is_known_while_it_reports(registry: Registry, advance: Callable[[float], None]) -> None:
    worker = TrainerWorker(name="w1", device="cpu", total_bytes=5, free_bytes=3, places=2)
    registry.workers.report(worker)
    assert registry.workers.expire(10) == []
    advance(8)
    registry.workers.report(worker)
    (known,) = registry.workers.list()
    assert (known.total_bytes, known.free_bytes, known.places) == (5, 3, 2)
    assert (known.started_at, known.reported_at) == (1000.0, 1008.0)
    assert registry.workers.expire(10) == []
    advance(11)
    assert registry.workers.expire(10) == ["w1"]
    registry.workers.report(worker)
    registry.workers.leave("w1")
    assert registry.workers.list() == []


def test_a_job_whose_machines_are_lost_waits_longer_each_time(queue: Queue, advance: Callable[[float], None]) -> None:
    jobs = queue.registry.jobs
    job_id = queue.put("doomed")

    def lose() -> None:
        assert jobs.expire_leases() == []
        advance(31)
        assert jobs.expire_leases() == [job_id]

    queue.claim()
    lose()
    lease = queue.claim()
    lose()
    assert queue.next() is None
    assert "2 workers were lost" in jobs.events(job_id)[0].message
    advance(pause_after(2))
    lease = queue.claim()
    jobs.add_checkpoint(lease, 5, {})
    assert jobs.get(job_id).losses == 0
    lose()
    assert queue.next() == "doomed", "a job that came further is not to blame"


def test_a_clock_that_was_set_back_keeps_no_job(queue: Queue, clock: Clock, advance: Callable[[float], None]) -> None:
    jobs = queue.registry.jobs
    queue.put("doomed")
    for _ in range(2):
        queue.claim()
        jobs.expire_leases()
        advance(31)
        assert jobs.expire_leases()
    assert queue.next() is None
    clock.jump(-5000)
    assert queue.next() == "doomed"


@given(st.integers(0, 10**6))
def test_the_pause_after_a_loss_grows_to_its_limit(losses: int) -> None:
    assert pause_after(losses) <= pause_after(losses + 1) <= LONGEST_PAUSE_S
    assert pause_after(1) == 0


heads = st.builds(
    Head,
    priority=st.integers(0, 2),
    tenant=st.sampled_from("abc"),
    passed_over=st.integers(0, 1),
    fit=st.sampled_from(Fit),
    seq=st.integers(1, 10**6),
)


@given(st.lists(heads, unique_by=lambda head: head.seq), st.dictionaries(st.sampled_from("abc"), st.floats(0, 1e6)))
def test_no_job_goes_before_one_of_a_higher_priority_or_of_an_owner_with_less_use(
    waiting: list[Head], uses: dict[str, float]
) -> None:
    order = list(in_order(waiting, uses))
    assert sorted(order, key=lambda head: head.seq) == sorted(waiting, key=lambda head: head.seq)
    for before, behind in pairwise(order):
        places = [(head.priority, uses.get(head.tenant, 0.0)) for head in (before, behind)]
        assert places[0] <= places[1]
        if (before.priority, before.tenant) == (behind.priority, behind.tenant):
            assert (before.passed_over, before.seq) < (behind.passed_over, behind.seq)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "registry.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def fresh(template: Path, tmp_path: Path, spec: SupervisedSpec) -> Iterator[Callable[[], Queue]]:
    """Makes an empty queue on SQLite for each example."""
    opened: list[Registry] = []

    def make() -> Queue:
        path = tmp_path / f"registry-{len(opened)}.db"
        shutil.copy(template, path)
        place = RegistrySettings(url=f"sqlite:///{path}", artifacts=tmp_path / "artifacts")
        opened.append(open_registry(place, lambda: 1000.0, lambda: 0.0))
        return Queue(opened[-1], spec)

    yield make
    for registry in opened:
        registry.close()


wishes = st.tuples(
    st.sampled_from("ab"), st.sampled_from(Priority), st.integers(1, 3), st.sets(st.integers(0, 5), max_size=2)
)


@pytest.mark.long
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=st.lists(wishes, min_size=1, max_size=6), free=st.integers(1, 3))
def test_whatever_was_queued_begins_once_in_a_legal_order(
    fresh: Callable[[], Queue], wanted: list[tuple[str, Priority, int, set[int]]], free: int
) -> None:
    queue, ids = fresh(), list[str]()
    for tenant, priority, needed, before in wanted:
        after = tuple(ids[each] for each in sorted(before) if each < len(ids) and wanted[each][0] == tenant)
        ids.append(queue.put(str(len(ids)), tenant, QueueEntry(needed_bytes=needed, after=after), priority=priority))
    room, begun = Room(total_bytes=free, free_bytes=free), list[str]()
    while (lease := queue.registry.jobs.claim("w1", 30.0, room)) is not None:
        assert lease.job_id not in begun
        number = ids.index(lease.job_id)
        tenant, priority, needed, before = wanted[number]
        assert needed <= free
        assert {ids[each] for each in before if each < number and wanted[each][0] == tenant} <= set(begun)
        begun.append(lease.job_id)
        queue.registry.jobs.succeed(lease, NOTE)
    for job in queue.registry.jobs.list():
        assert (job.id in begun) == (job.state is JobState.SUCCEEDED)
    # What is left waits for room that this worker never has, or for such a job.
    left = {number for number, job_id in enumerate(ids) if job_id not in begun}
    for number in left:
        tenant, _, needed, before = wanted[number]
        assert needed > free or any(each in left for each in before if each < number and wanted[each][0] == tenant)
