"""Several processes train what one would: the same rows, each once, the same losses, through stops and kills."""

from __future__ import annotations

import resource
from typing import Any, Final

import psutil
import pytest

from registry.contracts.job_spec import LoraSpec
from registry.contracts.parallel_spec import ParallelSpec
from registry.contracts.weights_spec import WeightsSpec
from registry.database import Registry
from registry.jobs.job import Job
from registry.jobs.job_state import JobState
from tests.trainer.attempts import (
    LONG,
    TIMEOUT_S,
    MakeJob,
    is_training,
    loss_curve,
    messages,
    stored_step,
    suspended,
    training_children,
    work,
    working,
)
from tests.waiting import wait_for
from trainer.settings import TrainerSettings

THIS = psutil.Process()
pytestmark = pytest.mark.trains
ON_DEMAND: Final = pytest.mark.same_bytes
"""Continuous integration leaves these cases out: the process of each job imports for seven seconds, and most compare
three to five jobs. The forks of `tests/trainer/together` have their like."""


@pytest.fixture
def train(registry: Registry, settings: TrainerSettings, make_job: MakeJob) -> Any:
    def run(processes: int, parallelism: str = "ddp", **fields: Any) -> Job:
        spread = ParallelSpec.model_validate({"processes": processes, "parallelism": parallelism})
        job = make_job(parallel=spread, lora=LoraSpec(rank=4, alpha=8), **fields)
        work(registry, settings)
        ended = registry.jobs.get(job.id)
        assert (ended.state, ended.error) == (JobState.SUCCEEDED, None), ended.error
        return ended

    return run


@ON_DEMAND
@pytest.mark.parametrize("batch_size", [4, 10])
def test_two_processes_have_the_losses_of_one(registry: Registry, train: Any, batch_size: int) -> None:
    one = train(1, batch_size=batch_size, validates=True)
    for parallelism in ("fsdp2", "deepspeed_zero2", "deepspeed_zero3", "ddp"):
        two = train(2, parallelism, batch_size=batch_size, validates=True)
        alone, together = loss_curve(registry, one.id), loss_curve(registry, two.id)
        assert list(together) == list(alone)
        assert list(together.values()) == pytest.approx(list(alone.values()), rel=1e-5)
        assert two.trained_tokens == one.trained_tokens


@ON_DEMAND
@pytest.mark.parametrize("kind", ["lora", "full"])
def test_zero_splits_what_is_recomputed_accumulated_and_kept(registry: Registry, train: Any, kind: Any) -> None:
    weights = WeightsSpec(kind=kind, gradient_checkpointing=True, micro_batch_size=1)
    rate = 1e-3 if kind == "full" else 1e-2
    asked = {"batch_size": 4, "validates": True, "weights": weights, "keep": "best", "learning_rate": rate}
    one = train(1, **asked)
    alone = loss_curve(registry, one.id)
    for parallelism in ("deepspeed_zero2", "deepspeed_zero3"):
        two = train(2, parallelism, **asked)
        assert list(loss_curve(registry, two.id).values()) == pytest.approx(list(alone.values()), rel=1e-4)
        assert validation(registry, two.id) == pytest.approx(validation(registry, one.id), rel=1e-4)


def validation(registry: Registry, job_id: str) -> float:
    """Return the loss of the step that was kept, as the job says."""
    (message,) = [each for each in messages(registry, job_id) if each.startswith("The result is step")]
    return float(message.rpartition(" ")[2])


@pytest.mark.parametrize(
    "parallelism",
    ["ddp", *(pytest.param(each, marks=ON_DEMAND) for each in ("fsdp2", "deepspeed_zero2", "deepspeed_zero3"))],
)
def test_two_processes_stop_die_and_go_on_as_one(
    registry: Registry, settings: TrainerSettings, make_job: MakeJob, train: Any, parallelism: Any
) -> None:
    straight = train(2, parallelism, **LONG)
    job = make_job(**LONG, parallel=straight.spec.parallel, lora=LoraSpec(rank=4, alpha=8))
    folder = settings.work / job.id
    with working(registry, settings) as (attempt, stop):
        with suspended(THIS, folder):
            stop.set()
        attempt.result(TIMEOUT_S)
    assert registry.jobs.get(job.id).state is JobState.QUEUED
    stopped_at = stored_step(folder)
    with working(registry, settings) as (attempt, _):
        wait_for(lambda: stored_step(folder) > stopped_at, TIMEOUT_S)
        (other,) = further_processes()
        other.kill()
        attempt.result(TIMEOUT_S)
    assert any("process 1 of the job ended" in message for message in messages(registry, job.id))
    work(registry, settings)
    ended = registry.jobs.get(job.id)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 3)
    assert loss_curve(registry, job.id) == loss_curve(registry, straight.id)
    first, second = registry.adapters.revisions("support")
    assert first.artifact == second.artifact
    assert further_processes() == []


def further_processes() -> list[psutil.Process]:
    """Return the processes that training children have started."""
    return [each for child in training_children(THIS) for each in child.children() if is_training(each)]


def test_a_fault_of_one_process_is_the_reason_of_the_job(
    registry: Registry, settings: TrainerSettings, make_job: MakeJob
) -> None:
    job = make_job(**LONG, parallel=ParallelSpec(processes=2))
    with working(registry, settings) as (attempt, _):
        (other,) = wait_for(further_processes, TIMEOUT_S)
        resource.prlimit(other.pid, resource.RLIMIT_FSIZE, (2048, 2048))  # its reason fits, its states do not
        attempt.result(TIMEOUT_S)
    ended = registry.jobs.get(job.id)
    assert ended.error is not None
    assert (ended.state, ended.error.code) == (JobState.FAILED, "storage_full"), ended.error.message
