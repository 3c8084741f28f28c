"""States move only along their tables, in whatever order moves are tried, and only the latest lease moves a job."""

from __future__ import annotations

import shutil
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.database import open_registry
from registry.errors import IllegalMove, InvalidPlan, LeaseLost
from registry.jobs import job_state
from registry.jobs.job import Lease
from registry.jobs.job_state import JobState
from registry.rollouts import rollout_state
from registry.rollouts.rollout import RolloutPlan, plan_from, weighted
from registry.rollouts.rollout_state import RolloutState
from registry.settings import RegistrySettings


@given(st.sampled_from(JobState), st.sampled_from(JobState))
def test_a_job_moves_exactly_along_its_table(current: JobState, to: JobState) -> None:
    if to in job_state.MOVES[current]:
        job_state.check_move(current, to)
        assert not current.is_terminal
    else:
        with pytest.raises(IllegalMove, match=f"{current} cannot become {to}"):
            job_state.check_move(current, to)


@given(st.sampled_from(RolloutState), st.sampled_from(RolloutState))
def test_a_rollout_moves_exactly_along_its_table(current: RolloutState, to: RolloutState) -> None:
    if to in rollout_state.MOVES[current]:
        rollout_state.check_move(current, to)
        assert not current.is_terminal
    else:
        with pytest.raises(IllegalMove, match=f"{current} cannot become {to}"):
            rollout_state.check_move(current, to)


@given(st.lists(st.integers(-1, 102), max_size=5), st.one_of(st.none(), st.floats(-1, 60)))
def test_a_plan_rises_to_100_or_is_refused(steps: list[int], every_s: float | None) -> None:
    rises = all(low < high for low, high in pairwise(steps)) and bool(steps) and steps[0] >= 1 and steps[-1] == 100
    if rises and (every_s is None or every_s > 0):
        assert plan_from({"steps": steps, "every_s": every_s}) == RolloutPlan(steps=weighted(*steps), every_s=every_s)
    else:
        with pytest.raises(InvalidPlan):
            plan_from({"steps": steps, "every_s": every_s})


class Jobs(RuleBasedStateMachine):
    """A trainer and its users trying everything on some jobs, in any order."""

    template: Path
    spec: SupervisedSpec

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        shutil.copy(self.template, self.home / "registry.db")
        self.now = 0.0
        place = RegistrySettings(url=f"sqlite:///{self.home / 'registry.db'}", artifacts=self.home / "artifacts")
        self.registry = open_registry(place, lambda: self.now, lambda: self.now)
        self.jobs = self.registry.jobs
        self.seen: dict[str, JobState] = {}
        self.latest: dict[str, Lease] = {}
        self.stale: list[Lease] = []

    def teardown(self) -> None:
        self.registry.close()
        shutil.rmtree(self.home)

    @invariant()
    def every_move_is_legal_and_recorded(self) -> None:
        for one in self.jobs.list():
            before = self.seen.get(one.id, JobState.QUEUED)
            assert one.state is before or one.state in job_state.MOVES[before]
            assert (one.worker is None) == (one.state is not JobState.RUNNING)
            self.seen[one.id] = one.state

    @precondition(lambda self: len(self.seen) < 3)
    @rule()
    def create(self) -> None:
        assert self.jobs.create(self.spec, "ann").state is JobState.QUEUED

    @rule(worker=st.sampled_from(["worker-1", "worker-2"]))
    def claim(self, worker: str) -> None:
        lease = self.jobs.claim(worker, 10)
        assert (lease is None) == (JobState.QUEUED not in self.seen.values())
        if lease is not None:
            self.stale += [self.latest[lease.job_id]] if lease.job_id in self.latest else []
            self.latest[lease.job_id] = lease

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), ask=st.sampled_from(["cancel", "pause", "resume"]))
    def ask(self, data: st.DataObject, ask: str) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.seen)))
        allowed = {
            "cancel": not self.seen[job_id].is_terminal,
            "pause": self.seen[job_id] in (JobState.QUEUED, JobState.RUNNING),
            "resume": self.seen[job_id] is JobState.PAUSED or self.jobs.get(job_id).pause_requested,
        }
        try:
            if ask == "cancel":
                self.jobs.request_cancel(job_id, "bob")
            elif ask == "pause":
                self.jobs.request_pause(job_id)
            else:
                self.jobs.resume(job_id)
        except IllegalMove:
            assert not allowed[ask]
        else:
            assert allowed[ask]

    @precondition(lambda self: self.latest)
    @rule(data=st.data(), end=st.sampled_from(["release", "yield", *filter(lambda s: s.is_terminal, JobState)]))
    def give_back(self, data: st.DataObject, end: str) -> None:
        lease = self.latest[data.draw(st.sampled_from(sorted(self.latest)))]
        held = self.seen[lease.job_id] is JobState.RUNNING
        try:
            if end == "release":
                self.jobs.release(lease)
            elif end == "yield":
                self.jobs.yield_paused(lease)
            else:
                self.jobs.finish(lease, JobState(end))
        except LeaseLost:
            assert not held
        else:
            assert held

    @rule(seconds=st.sampled_from([1.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        running = {job_id for job_id, state in self.seen.items() if state is JobState.RUNNING}
        assert running >= set(self.jobs.expire_leases())

    @precondition(lambda self: self.stale)
    @rule(data=st.data())
    def use_an_old_lease(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.stale))
        with pytest.raises(LeaseLost):
            self.jobs.renew(lease, 10)


@pytest.mark.long
def test_jobs_keep_to_their_table_whatever_is_tried(sqlite_template: Path, spec: SupervisedSpec) -> None:
    class OurJobs(Jobs):
        template = sqlite_template

    OurJobs.spec = spec
    steps = settings(
        max_examples=15,
        stateful_step_count=25,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(OurJobs, settings=steps)
