"""Kill parts at random points and compare every job with an undisturbed one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from registry.database import Registry
from registry.jobs.job import Job, JobState
from tests.kills.asked import KINDS, Asked
from tests.kills.stage import Stage, wait_until

PARTS: Final = ("worker", "child", "gateway", "controller")
LONGEST_PAUSE_S: Final = 4.0
"""Between two kills; a job of the drill takes about this long from a checkpoint to the end."""
ENDS_WITHIN_S: Final = 900.0
OPEN_JOBS: Final = 2


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of the jobs."""

    killed: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    succeeded: int = 0
    attempts: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return the figures in one line."""
        kills = ", ".join(f"{count} of the {part}" for part, count in sorted(self.killed.items()))
        failed = ", ".join(f"{count} {code}" for code, count in self.failed.items()) or "none"
        return (
            f"{self.killed.total()} kills ({kills}); {self.jobs} jobs in {self.attempts} attempts: {self.succeeded} "
            f"succeeded as undisturbed, failed: {failed}; {len(self.faults)} faults"
        )


def drill(stage: Stage, seed: int, kills: int, say: Callable[[str], object], kinds: Sequence[Asked] = KINDS) -> Outcome:
    """Make a job of each kind undisturbed, then jobs of all kinds under *kills* kills; return what became of them."""
    random, outcome = Random(seed), Outcome()
    with stage.running():
        undisturbed = {kind.name: _result(stage.registry, _ended(stage, stage.ask(kind))) for kind in kinds}
        say(f"undisturbed: {', '.join(undisturbed)}")
        asked: dict[str, str] = {}
        while outcome.killed.total() < kills:
            if _open_jobs(stage.registry) < OPEN_JOBS:
                kind = kinds[len(asked) % len(kinds)]
                asked[stage.ask(kind)] = kind.name
            time.sleep(random.uniform(0.0, LONGEST_PAUSE_S))
            if (killed := stage.kill(random.choice(PARTS), random)) is not None:
                outcome.killed[killed] += 1
                say(f"kill {outcome.killed.total()}: {killed}")
        for job_id in asked:
            _ended(stage, job_id)
        _judge(stage.registry, asked, undisturbed, outcome)
    return outcome


def _open_jobs(registry: Registry) -> int:
    return sum(not job.state.is_terminal for job in registry.jobs.list(limit=1000))


def _ended(stage: Stage, job_id: str) -> Job:
    jobs = stage.registry.jobs
    wait_until(lambda: jobs.get(job_id).state.is_terminal, ENDS_WITHIN_S)
    return jobs.get(job_id)


def _result(registry: Registry, job: Job) -> tuple[str, ...]:
    """Return the digests of all that the job published."""
    names = [adapter.name for adapter in registry.adapters.list()]
    revisions = [each.artifact for name in names for each in registry.adapters.revisions(name) if each.job_id == job.id]
    checkpoints = [base.digest for base in registry.bases.list() if base.job_id == job.id]
    return (*revisions, *checkpoints)


def _judge(
    registry: Registry, asked: Mapping[str, str], undisturbed: Mapping[str, tuple[str, ...]], outcome: Outcome
) -> None:
    """Note every job that is lost, published twice, or has another result than the undisturbed one of its kind."""
    for job_id, kind in asked.items():
        job = registry.jobs.get(job_id)
        outcome.jobs += 1
        outcome.attempts += job.attempt
        result = _result(registry, job)
        if job.state is JobState.SUCCEEDED and result == undisturbed[kind]:
            outcome.succeeded += 1
        elif job.state is JobState.FAILED and job.error is not None and not result:
            outcome.failed[job.error.code] += 1
        else:
            outcome.faults.append(f"{kind} {job_id} is {job.state} with {result}, expected {undisturbed[kind]}")
