"""The catalog of kinds of jobs answers for each kind."""

from __future__ import annotations

import pytest

from registry.contracts.job_kinds import JOB_KINDS
from registry.contracts.job_spec import JobSpec
from registry.contracts.merge_spec import MergeSpec
from registry.database import Registry
from registry.jobs.job_phase import JobPhase


@pytest.mark.parametrize("kind", JOB_KINDS.values(), ids=JOB_KINDS)
def test_whoever_names_folders_says_so(kind: type[JobSpec]) -> None:
    """Folders of kinds that do not say so would be removed under a job that waits."""
    names_some = bool(kind.artifact_fields) or kind.artifacts is not JobSpec.artifacts
    assert kind.reads_folders is names_some


@pytest.mark.parametrize("kind", JOB_KINDS.values(), ids=JOB_KINDS)
def test_words_of_a_kind_are_for_phases_that_there_are(kind: type[JobSpec]) -> None:
    assert set(kind.phase_words) <= set(JobPhase)
    assert not any(words == JobPhase(phase).doing for phase, words in kind.phase_words.items())


def test_a_job_that_does_not_train_does_not_say_that_it_trains(registry: Registry) -> None:
    spec = MergeSpec(base="tiny", base_digest="d", adapter="support", revision="support@1", artifact="a")
    job = registry.jobs.create(spec, "ann")
    assert job.doing is None
    lease = registry.jobs.claim("worker-1", 30)
    assert lease is not None
    registry.jobs.enter_phase(lease, JobPhase.LOADING, 1.0)
    assert registry.jobs.get(job.id).doing == "loading the model"
    registry.jobs.enter_phase(lease, JobPhase.FINISHING, 1.0)
    assert registry.jobs.get(job.id).doing == "merging, and comparing the result with base and adapter"
