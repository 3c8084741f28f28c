"""Reproductions: jobs that run the job of a result again, and their reports."""

from __future__ import annotations

from typing import Literal

from gateway.objects.jobs import JobErrorObject
from gateway.objects.lists import ApiObject
from registry.contracts.reproductions.reproduction_report import ReproductionReport
from registry.jobs.job_state import JobState


class ReproductionObject(ApiObject):
    """A job that makes a result again."""

    object: Literal["reproduction"] = "reproduction"
    id: str
    """Id of the job, which `/admin/jobs` has too."""
    model: str
    """Name of the result that is made again."""
    status: JobState
    error: JobErrorObject | None
    verdict: str | None
    """The outcome as one sentence; None until the job has succeeded."""
    report: ReproductionReport | None
