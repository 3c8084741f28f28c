"""Jobs that quantize a model, and their scores."""

from __future__ import annotations

from typing import Literal

from gateway.objects.jobs import JobErrorObject
from gateway.objects.lists import ApiObject
from registry.contracts.quantizations.quantization_report import QuantizationReport
from registry.contracts.quantizations.schemes import Scheme
from registry.jobs.job_state import JobState


class QuantizationObject(ApiObject):
    """A job that quantizes a model."""

    object: Literal["quantization"] = "quantization"
    id: str
    """Id of the job, which `/admin/jobs` has too."""
    model: str
    """Name of the revision, base model or checkpoint that is quantized."""
    base: str
    """Name of the base model below it."""
    scheme: Scheme
    chosen_because: str | None
    """Why `auto` chose the scheme; None where it was named."""
    group_size: int | None
    samples: int
    """Rows of the calibration file that scales are computed from."""
    max_rise: float
    waived: list[str]
    pools: list[str]
    tried_on: list[str]
    """Kinds of engine of these pools, on which the result is tried before it is published."""
    engines: dict[str, str | None]
    """Kind of engine -> why its servers on this machine do not serve the result; None where they do."""
    status: JobState
    checkpoint: str | None
    """Name of the checkpoint; None until the job has succeeded."""
    error: JobErrorObject | None
    report: QuantizationReport | None
    """The scores, also of a checkpoint that the gate refused; None until they are measured."""
