"""The catalog of kinds of jobs answers for each kind."""

from __future__ import annotations

import pytest

from registry.contracts.job_kinds import JOB_KINDS
from registry.contracts.job_spec import JobSpec


@pytest.mark.parametrize("kind", JOB_KINDS.values(), ids=JOB_KINDS)
def test_whoever_names_folders_says_so(kind: type[JobSpec]) -> None:
    """Folders of kinds that do not say so would be removed under a job that waits."""
    names_some = bool(kind.artifact_fields) or kind.artifacts is not JobSpec.artifacts
    assert kind.reads_folders is names_some
