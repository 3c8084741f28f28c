"""Merges of revisions into their base models."""

from __future__ import annotations

from typing import Literal

from gateway.objects.jobs import JobErrorObject
from gateway.objects.lists import ApiObject
from registry.jobs.job_state import JobState


class MergeObject(ApiObject):
    """A job that merges a revision into its base model."""

    object: Literal["merge"] = "merge"
    id: str
    """Id of the job, which `/admin/jobs` has too."""
    model: str
    """Name of the revision."""
    base: str
    """Name of the base model."""
    status: JobState
    checkpoint: str | None
    """Name of the checkpoint; None until the job has succeeded."""
    error: JobErrorObject | None
