"""Kill parts in every phase of jobs of every kind, and compare each job with an undisturbed one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle
from random import Random
from typing import Any, Final

from registry.database import Registry
from registry.jobs.job import Job
from registry.jobs.job_state import JobState
from tests.kills.asked import KINDS, Kind
from tests.kills.phases import AIMED_AT, Phase
from tests.kills.stage import Stage, wait_until

PARTS: Final = ("worker", "child", "gateway", "controller")
LOOKS_EVERY_S: Final = 0.004
"""The shortest phases of a small job take some 20 ms."""
COMES_WITHIN_S: Final = 60.0
"""How long a kill waits for its phase, or for jobs to end; then it strikes whatever there is."""
ENDS_WITHIN_S: Final = 900.0
OPEN_JOBS: Final = 2
LETS_END: Final = (0, 0, 0, 1, 1, 2)
"""How many jobs may end before the next kill, drawn at random."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """The outcomes of the jobs."""

    killed: Counter[str] = field(default_factory=Counter)
    """Part -> how often."""
    met: Counter[Phase] = field(default_factory=Counter)
    """Phase of the running job -> how many kills met it."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Kind -> jobs that succeeded with the result of an undisturbed one."""
    jobs: int = 0
    attempts: int = 0
    disturbed: int = 0
    """Jobs with more than one attempt."""
    failed: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return the figures in one line."""
        failed = _listed(self.failed) or "none"
        return (
            f"{self.killed.total()} kills ({_listed(self.killed)}) while jobs were {_listed(self.met)}; {self.jobs} "
            f"jobs in {self.attempts} attempts, {self.disturbed} with more than one: {self.kinds.total()} succeeded as "
            f"undisturbed ({_listed(self.kinds)}), failed: {failed}; {len(self.faults)} faults"
        )


def drill(stage: Stage, seed: int, kills: int, say: Callable[[str], object], kinds: Sequence[Kind] = KINDS) -> Outcome:
    """Make a job of each kind undisturbed, then jobs of all kinds under *kills* kills; return what became of them."""
    random, outcome = Random(seed), Outcome()
    aims = [phase for phase in AIMED_AT if any(phase in kind.phases for kind in kinds)]
    with stage.running(), ThreadPoolExecutor(1) as asking:
        first = [kind.ask(stage) for kind in kinds]
        undisturbed = {_kind_of(job): _result(stage.registry, job) for job in map(_ended(stage), first)}
        outcome.faults += [f"{kind} gives no result undisturbed" for kind, result in undisturbed.items() if not result]
        say(f"undisturbed: {', '.join(undisturbed)}")
        queue = _Queue(stage, asking, _shuffled(kinds, random))
        while outcome.killed.total() < kills:
            part, phase, ends = random.choice(PARTS), random.choice(aims), random.choice(LETS_END)
            queue.let_end(ends)
            met = queue.await_phase(phase)
            if stage.kill(part, random):
                outcome.killed[part] += 1
                outcome.met[met] += 1
                say(f"kill {outcome.killed.total()}: the {part}, {met} (aimed at {phase})")
        outcome.faults += [f"job {job_id} is lost" for job_id in queue.lost()]
        wait_until(lambda: not _open_jobs(stage.registry), ENDS_WITHIN_S)
        for job in stage.registry.jobs.list(limit=1000):
            if job.id not in first:
                _judge(job, _result(stage.registry, job), undisturbed[_kind_of(job)], outcome)
        stage.kill("worker", random)
        wait_until(lambda: not stage.remains(), COMES_WITHIN_S)
        outcome.faults += [f"left: {what}" for what in stage.remains()]
    return outcome


class _Queue:
    """Keeps some jobs of all kinds open, asked for beside the kills."""

    def __init__(self, stage: Stage, asking: ThreadPoolExecutor, kinds: Iterator[Kind]) -> None:
        self._stage = stage
        self._asking = asking
        self._kinds = kinds
        self._asked: list[Future[str]] = []

    def let_end(self, jobs: int) -> None:
        """Return when so many more jobs have ended."""
        goal = self._count_ended() + jobs
        wait_until(lambda: self._fill() and self._count_ended() >= goal, COMES_WITHIN_S)

    def await_phase(self, phase: Phase) -> Phase:
        """Return when a job is in *phase*, or none came there in time; return the phase in which it is."""
        wait_until(
            lambda: self._fill() and wait_until(lambda: self._stage.phase() is phase, 1.0, LOOKS_EVERY_S),
            COMES_WITHIN_S,
            pause_s=0.0,
        )
        return self._stage.phase()

    def lost(self) -> list[str]:
        """Return the ids that the gateway answered with, and that are not in the registry."""
        asked = [answer.result() for answer in self._asked]  # the last of them may still be on its way
        known = {job.id for job in self._stage.registry.jobs.list(limit=1000)}
        return [job_id for job_id in asked if job_id not in known]

    def _fill(self) -> bool:
        if _open_jobs(self._stage.registry) < OPEN_JOBS and all(answer.done() for answer in self._asked):
            self._asked.append(self._asking.submit(next(self._kinds).ask, self._stage))
        return True

    def _count_ended(self) -> int:
        return sum(job.state.is_terminal for job in self._stage.registry.jobs.list(limit=1000))


def _shuffled(kinds: Sequence[Kind], random: Random) -> Iterator[Kind]:
    """Yield all kinds again and again, in an order of *random*."""
    yield from cycle(random.sample(kinds, len(kinds)))


def _open_jobs(registry: Registry) -> int:
    return sum(not job.state.is_terminal for job in registry.jobs.list(limit=1000))


def _ended(stage: Stage) -> Callable[[str], Job]:
    jobs = stage.registry.jobs

    def ended(job_id: str) -> Job:
        wait_until(lambda: jobs.get(job_id).state.is_terminal, ENDS_WITHIN_S)
        return jobs.get(job_id)

    return ended


def _kind_of(job: Job) -> str:
    return job.spec.adapter


def _result(registry: Registry, job: Job) -> tuple[str, ...]:
    """Return the digests of all that the job published, steps that are served beside its result included."""
    names = [adapter.name for adapter in registry.adapters.list()]
    revisions = [each.artifact for name in names for each in registry.adapters.revisions(name) if each.job_id == job.id]
    checkpoints = [base.digest for base in registry.bases.list() if base.job_id == job.id]
    steps = [f"{each.step}: {each.artifact}" for each in registry.snapshot().checkpoints if each.job_id == job.id]
    return (*revisions, *checkpoints, *sorted(steps))


def _judge(job: Job, result: tuple[str, ...], undisturbed: tuple[str, ...], outcome: Outcome) -> None:
    """Note a job that has not ended, was published twice, or has another result than the undisturbed one of its kind.

    A client whose answer a kill took asks again, so there may be more jobs than answers; all of them are judged.
    """
    outcome.jobs += 1
    outcome.attempts += job.attempt
    outcome.disturbed += job.attempt > 1
    if job.state is JobState.SUCCEEDED and result == undisturbed:
        outcome.kinds[_kind_of(job)] += 1
    elif job.state is JobState.FAILED and job.error is not None and not result:
        outcome.failed[job.error.code] += 1
    else:
        outcome.faults.append(f"{_kind_of(job)} {job.id} is {job.state} with {result}, expected {undisturbed}")


def _listed(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
