"""How long a job still takes, beside the job and on the page of the system."""

from __future__ import annotations

from typing import Literal

from gateway.objects.lists import ApiObject


class JobEstimate(ApiObject):
    """How long the job still takes: an estimate, never a promise."""

    remaining_s: int
    """Seconds that remain; for a job that waits, seconds from the moment in which a worker begins it."""
    source: Literal["steps", "earlier_jobs", "formula"]
    """The speed of the job's own steps, up to the last of them; the time that earlier jobs like it took; or that of
    `POST /admin/estimates`, corrected by finished jobs of its kind."""
    earlier_jobs: int | None
    """How many earlier jobs the estimate follows from."""
