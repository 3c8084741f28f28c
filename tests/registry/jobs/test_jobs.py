"""A job belongs to one worker at a time, and its state moves only along the table."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.database import Registry, open_registry
from registry.errors import IllegalMove, LeaseLost, NotFound
from registry.jobs.job import JobError, Lease
from registry.jobs.job_moves import JobNote, new_event_id
from registry.jobs.job_phase import JobPhase
from registry.jobs.job_state import JobState
from registry.settings import RegistrySettings
from registry.states import Priority
from tests.clock import Clock

ROOT = Path(__file__).parents[3]


@pytest.fixture
def lease(registry: Registry, spec: SupervisedSpec) -> Lease:
    """A running job's lease of 30 seconds, whose beginning was looked at."""
    registry.jobs.create(spec, "ann")
    claimed = registry.jobs.claim("worker-1", 30)
    assert claimed is not None
    assert registry.jobs.expire_leases() == []
    return claimed


def messages(registry: Registry, job_id: str) -> list[str]:
    return [event.message for event in registry.jobs.events(job_id, limit=100)]


def test_a_new_job_is_queued_with_its_spec_and_first_event(registry: Registry, spec: SupervisedSpec) -> None:
    job = registry.jobs.create(spec, "ann")
    assert (job.state, job.spec, job.owner, job.attempt) == (JobState.QUEUED, spec, "ann", 0)
    assert job.id.startswith("ftjob-")
    assert registry.jobs.get(job.id) == job
    *checked, event = registry.jobs.events(job.id)
    assert [each.message for each in checked] == [
        "Files validated, moving job to queued state",
        f"Validating training file: {spec.training_file}",
    ]
    assert (event.message, event.level, event.type) == (f"Created fine-tuning job: {job.id}", "info", "message")
    with pytest.raises(NotFound, match="ftjob-none"):
        registry.jobs.get("ftjob-none")


def test_the_oldest_queued_job_is_claimed_first(registry: Registry, spec: SupervisedSpec) -> None:
    ids = [registry.jobs.create(spec, "ann").id for _ in range(3)]
    leases = [registry.jobs.claim("worker-1", 30) for _ in range(4)]
    assert [lease and lease.job_id for lease in leases] == [*ids, None]
    job = registry.jobs.get(ids[0])
    assert (job.state, job.worker, job.attempt, job.lease_expires_at) == (JobState.RUNNING, "worker-1", 1, 1030.0)


def test_a_running_job_says_what_it_does_until_it_is_given_back(registry: Registry, lease: Lease) -> None:
    begun = registry.jobs.get(lease.job_id)
    assert (begun.phase, begun.phase_since) == (JobPhase.STARTING, begun.started_at)
    registry.jobs.enter_phase(lease, JobPhase.ENCODING, 1234.5)
    encoding = registry.jobs.get(lease.job_id)
    assert (encoding.phase, encoding.phase_since) == (JobPhase.ENCODING, 1234.5)
    released = registry.jobs.release(lease)
    assert (released.phase, released.phase_since) == (None, None)
    with pytest.raises(LeaseLost):
        registry.jobs.enter_phase(lease, JobPhase.LOADING, 1235.0)


def test_jobs_are_claimed_by_their_priority_and_then_by_their_age(registry: Registry, spec: SupervisedSpec) -> None:
    asked = (Priority.LOW, Priority.NORMAL, Priority.HIGH, Priority.NORMAL, Priority.HIGH)
    ids = [registry.jobs.create(spec.model_copy(update={"priority": each}), "ann").id for each in asked]
    claimed = [registry.jobs.claim("worker-1", 30) for _ in asked]
    assert [ids.index(lease.job_id) for lease in claimed if lease] == [2, 4, 1, 3, 0]


@pytest.mark.long
def test_threads_and_processes_that_claim_at_once_never_get_the_same_job(
    registry: Registry, spec: SupervisedSpec, settings: RegistrySettings
) -> None:
    ids = [registry.jobs.create(spec, "ann").id for _ in range(40)]
    script = (
        "import json, sys; from registry.database import *; from registry.settings import *\n"
        "registry = open_registry(RegistrySettings.model_validate_json(sys.argv[1]))\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "leases = iter(lambda: registry.jobs.claim(sys.argv[2], 30), None)\n"
        "print(json.dumps([lease.job_id for lease in leases])); registry.close()\n"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", script, settings.model_dump_json(), f"process-{number}"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"

    def claim_all(worker: str) -> list[str]:
        leases: list[str] = []
        while (lease := registry.jobs.claim(worker, 30)) is not None:
            leases.append(lease.job_id)
        return leases

    with ThreadPoolExecutor(4) as threads:
        claims = [threads.submit(claim_all, f"thread-{number}") for number in range(4)]
        answers = [child.communicate("go\n", timeout=60)[0] for child in children]
        claimed = [job_id for claim in claims for job_id in claim.result()]
    claimed += [job_id for answer in answers for job_id in json.loads(answer)]
    assert sorted(claimed) == sorted(ids)


def test_a_lease_is_kept_by_renewing_it(registry: Registry, lease: Lease, advance: Callable[[float], None]) -> None:
    advance(29)
    assert registry.jobs.renew(lease, 30).lease_expires_at == 1059.0
    assert registry.jobs.expire_leases() == []
    advance(29)
    assert registry.jobs.expire_leases() == []
    advance(2)
    assert registry.jobs.expire_leases() == [lease.job_id]
    assert registry.jobs.get(lease.job_id).state is JobState.QUEUED
    assert registry.jobs.events(lease.job_id)[0].level == "warn"


@pytest.mark.parametrize("seconds", [7200.0, -7200.0])
def test_a_clock_that_jumps_ends_no_lease_and_keeps_none(
    registry: Registry, lease: Lease, clock: Clock, seconds: float
) -> None:
    clock.jump(seconds)
    assert registry.jobs.expire_leases() == []
    clock.advance(29)
    registry.jobs.renew(lease, 30)
    clock.jump(-seconds)
    assert registry.jobs.expire_leases() == []
    clock.advance(31)
    assert registry.jobs.expire_leases() == [lease.job_id], "the worker is silent, whatever time it is"


def test_a_process_that_begins_to_look_waits_for_the_whole_lease(
    registry: Registry, lease: Lease, clock: Clock, settings: RegistrySettings
) -> None:
    clock.advance(1000)
    with closing(open_registry(settings, clock, clock.steady)) as late:
        assert late.jobs.expire_leases() == []
        clock.advance(31)
        assert late.jobs.expire_leases() == [lease.job_id]


def test_a_worker_whose_lease_ran_out_can_move_nothing(
    registry: Registry, lease: Lease, advance: Callable[[float], None]
) -> None:
    advance(31)
    registry.jobs.expire_leases()
    again = registry.jobs.claim("worker-2", 30)
    assert again == Lease(job_id=lease.job_id, worker="worker-2", attempt=2)
    before = registry.jobs.get(lease.job_id)
    for attempt in (
        lambda: registry.jobs.renew(lease, 30),
        lambda: registry.jobs.finish(lease, JobState.FAILED, JobError(code="x", message="y")),
        lambda: registry.jobs.release(lease),
        lambda: registry.jobs.yield_paused(lease),
        lambda: registry.jobs.add_checkpoint(lease, 5, {}),
        lambda: registry.jobs.note_progress(lease, trained_tokens=1, estimated_finish=None),
    ):
        with pytest.raises(LeaseLost, match=r"worker-1.*attempt 1.*held by worker-2"):
            attempt()
    assert registry.jobs.get(lease.job_id) == before
    assert before.started_at == 1000.0


def test_the_same_worker_with_an_older_attempt_has_lost_its_lease(registry: Registry, lease: Lease) -> None:
    registry.jobs.release(lease)
    assert registry.jobs.claim("worker-1", 30) == Lease(job_id=lease.job_id, worker="worker-1", attempt=2)
    with pytest.raises(LeaseLost):
        registry.jobs.renew(lease, 30)


def test_a_job_that_waits_is_cancelled_at_once(registry: Registry, spec: SupervisedSpec) -> None:
    queued, paused = (registry.jobs.create(spec, "ann").id for _ in range(2))
    registry.jobs.request_pause(paused)
    for job_id in (queued, paused):
        job = registry.jobs.request_cancel(job_id, "bob")
        assert (job.state, job.finished_at) == (JobState.CANCELLED, 1000.0)
        with pytest.raises(IllegalMove, match="cancelled"):
            registry.jobs.request_cancel(job_id, "bob")
    assert registry.jobs.claim("worker-1", 30) is None
    assert [entry.action for entry in registry.audit.list()] == ["job.cancel"] * 2


def test_a_running_job_is_flagged_and_its_worker_cancels_it(registry: Registry, lease: Lease) -> None:
    assert registry.jobs.request_cancel(lease.job_id, "bob").state is JobState.RUNNING
    assert registry.jobs.request_cancel(lease.job_id, "bob").cancel_requested
    assert registry.jobs.renew(lease, 30).cancel_requested
    job = registry.jobs.finish(lease, JobState.CANCELLED)
    assert (job.state, job.worker, job.lease_expires_at, job.finished_at) == (JobState.CANCELLED, None, None, 1000.0)
    assert messages(registry, job.id)[:2] == ["The job cancelled", "Cancellation requested by bob"]


def test_a_job_whose_worker_died_after_a_cancellation_is_not_started_again(
    registry: Registry, lease: Lease, advance: Callable[[float], None]
) -> None:
    registry.jobs.request_cancel(lease.job_id, "bob")
    advance(31)
    assert registry.jobs.expire_leases() == [lease.job_id]
    assert registry.jobs.get(lease.job_id).state is JobState.CANCELLED


def test_pausing_and_resuming_keeps_the_job_and_its_checkpoints(registry: Registry, lease: Lease) -> None:
    registry.jobs.add_checkpoint(lease, 25, {"loss": 1.5})
    assert registry.jobs.request_pause(lease.job_id).pause_requested
    assert registry.jobs.renew(lease, 30).pause_requested
    paused = registry.jobs.yield_paused(lease)
    assert (paused.state, paused.pause_requested) == (JobState.PAUSED, False)
    with pytest.raises(IllegalMove, match="a job that is paused cannot be paused; only one that waits or runs can"):
        registry.jobs.request_pause(lease.job_id)
    assert registry.jobs.claim("worker-2", 30) is None
    assert registry.jobs.resume(lease.job_id).state is JobState.QUEUED
    assert registry.jobs.claim("worker-2", 30) is not None
    assert [checkpoint.global_step for checkpoint in registry.jobs.checkpoints(lease.job_id)] == [25]


def test_a_pause_that_was_taken_back_does_not_pause(registry: Registry, lease: Lease) -> None:
    registry.jobs.request_pause(lease.job_id)
    assert not registry.jobs.resume(lease.job_id).pause_requested
    assert registry.jobs.yield_paused(lease).state is JobState.QUEUED
    with pytest.raises(IllegalMove, match="only a paused one"):
        registry.jobs.resume(lease.job_id)


def test_a_failed_job_says_why(registry: Registry, lease: Lease) -> None:
    error = JobError(code="row_too_long", message="row 7 has 2000 tokens", param="training_file")
    with pytest.raises(IllegalMove, match="queued"):
        registry.jobs.finish(lease, JobState.QUEUED)
    job = registry.jobs.finish(lease, JobState.FAILED, error)
    assert (job.state, job.error) == (JobState.FAILED, error)
    assert registry.jobs.events(job.id)[0].level == "error"
    with pytest.raises(LeaseLost):
        registry.jobs.finish(lease, JobState.CANCELLED)


def test_progress_is_kept_with_the_job(registry: Registry, lease: Lease) -> None:
    registry.jobs.note_progress(lease, trained_tokens=512, estimated_finish=1234.5)
    job = registry.jobs.get(lease.job_id)
    assert (job.trained_tokens, job.estimated_finish) == (512, 1234.5)


def test_a_checkpoint_of_the_same_step_replaces_the_first(registry: Registry, lease: Lease) -> None:
    for step, loss in ((25, 2.0), (50, 1.5), (50, 1.4)):
        registry.jobs.add_checkpoint(lease, step, {"loss": loss})
    found = registry.jobs.checkpoints(lease.job_id)
    assert [(one.global_step, one.metrics["loss"]) for one in found] == [(50, 1.4), (25, 2.0)]
    assert [one.global_step for one in registry.jobs.checkpoints(lease.job_id, after=found[0].id)] == [25]


def test_lists_are_paged_newest_first(registry: Registry, spec: SupervisedSpec) -> None:
    ids = [registry.jobs.create(spec, "ann").id for _ in range(5)][::-1]
    assert [job.id for job in registry.jobs.list(limit=2)] == ids[:2]
    assert [job.id for job in registry.jobs.list(after=ids[1], limit=2)] == ids[2:4]
    lease = registry.jobs.claim("w1", 60.0)
    assert lease is not None
    for number in range(3):
        note = JobNote(message=f"step {number}", type="metrics", data={"step": number})
        registry.jobs.add_event(lease, new_event_id(), note)
    newest = registry.jobs.events(ids[-1], limit=2)
    assert [event.data for event in newest] == [{"step": 2}, {"step": 1}]
    rest = registry.jobs.events(ids[-1], after=newest[-1].id)
    assert [event.message for event in rest] == [
        "step 0",
        "Started by worker w1",
        "Files validated, moving job to queued state",
        f"Validating training file: {spec.training_file}",
        f"Created fine-tuning job: {ids[-1]}",
    ]
    with pytest.raises(NotFound, match="ftjob-none"):
        registry.jobs.list(after="ftjob-none")


def test_jobs_are_found_by_their_metadata(registry: Registry, spec: SupervisedSpec) -> None:
    pairs = ({"team": "a", "run": "1"}, {"team": "a", "run": "2"}, {"team": "b'\"", "run": "2"})
    ids = [registry.jobs.create(spec.model_copy(update={"metadata": pair}), "ann").id for pair in pairs]
    assert [job.id for job in registry.jobs.list(metadata={"team": "a"})] == [ids[1], ids[0]]
    assert [job.id for job in registry.jobs.list(metadata={"team": "b'\"", "run": "2"})] == [ids[2]]
    assert registry.jobs.list(metadata={"other": "a"}) == []


def test_an_event_is_stored_once_however_often_it_is_sent_and_only_by_the_holder_of_the_lease(
    registry: Registry, lease: Lease, advance: Callable[[float], None]
) -> None:
    event_id = new_event_id()
    for _ in range(2):  # nobody knows whether a call was stored whose connection broke
        registry.jobs.add_event(lease, event_id, JobNote(message="step 1"))
    assert [event.message for event in registry.jobs.events(lease.job_id)].count("step 1") == 1
    advance(1000.0)
    assert registry.jobs.expire_leases() == [lease.job_id]
    with pytest.raises(LeaseLost):
        registry.jobs.add_event(lease, new_event_id(), JobNote(message="from a worker that was away"))


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_looking_for_lost_leases_waits_for_no_writer(registry: Registry, lease: Lease) -> None:
    with registry.transactions.write():
        assert registry.jobs.expire_leases() == []
    assert registry.jobs.get(lease.job_id).state is JobState.RUNNING
