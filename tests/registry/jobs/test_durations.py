"""A job is expected to take what earlier jobs like it took; where none is like it, nothing is expected."""

from __future__ import annotations

from typing import Any

from registry.contracts.job_spec import LoraSpec
from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.database import Registry
from registry.jobs.job_state import JobState
from tests.clock import Clock


def file_of(registry: Registry, size_bytes: int) -> str:
    """Return the id of a new file of this size."""
    return registry.files.add([b"x" * size_bytes], filename="rows.jsonl", purpose="fine-tune", owner="ann").id


def took(registry: Registry, clock: Clock, spec: SupervisedSpec, seconds: float, *, attempts: int = 1) -> None:
    """Have a job of *spec* succeed that takes *seconds* in this many attempts."""
    job = registry.jobs.create(spec, "ann")
    for left in reversed(range(attempts)):
        lease = registry.jobs.claim("worker-1", 30)
        assert lease is not None
        clock.advance(seconds / attempts)
        if left:
            registry.jobs.release(lease)
        else:
            registry.jobs.finish(lease, JobState.SUCCEEDED)
    assert registry.jobs.get(job.id).state is JobState.SUCCEEDED


def expected(registry: Registry, spec: SupervisedSpec) -> tuple[float, int] | None:
    found = registry.jobs.expected_duration(registry.jobs.create(spec, "ann"))
    return None if found is None else (round(found.seconds, 3), found.jobs)


def test_the_expected_time_grows_with_the_work(registry: Registry, clock: Clock, spec: SupervisedSpec) -> None:
    small = spec.model_copy(update={"training_file": file_of(registry, 1000)})
    assert expected(registry, small) is None
    registry.jobs.request_cancel(registry.jobs.list()[0].id, "ann")
    took(registry, clock, small, 40.0)
    again: dict[str, Any] = {"adapter": "other", "seed": 8, "learning_rate": 1e-3}
    assert expected(registry, small.model_copy(update=again)) == (40.0, 1)
    larger = {"training_file": file_of(registry, 1500)}
    assert expected(registry, small.model_copy(update=larger)) == (60.0, 1)
    assert expected(registry, small.model_copy(update={"n_epochs": 2})) == (80.0, 1)


def test_the_median_of_the_latest_jobs_counts(registry: Registry, clock: Clock, spec: SupervisedSpec) -> None:
    known = spec.model_copy(update={"training_file": file_of(registry, 1000)})
    for seconds in (900.0, 10.0, 50.0, 30.0, 20.0, 40.0):
        took(registry, clock, known, seconds)
    assert expected(registry, known) == (30.0, 5)


def test_a_job_of_another_kind_or_size_says_nothing(registry: Registry, clock: Clock, spec: SupervisedSpec) -> None:
    known = spec.model_copy(update={"training_file": file_of(registry, 1000)})
    others: list[dict[str, Any]] = [
        {"base": "other"},
        {"batch_size": 8},
        {"lora": LoraSpec(rank=32)},
        {"n_epochs": 3},
        {"training_file": "file-deleted"},
    ]
    for other in others:
        took(registry, clock, known.model_copy(update=other), 40.0)
    took(registry, clock, known, 40.0, attempts=2)
    assert expected(registry, known) is None
