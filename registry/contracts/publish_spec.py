"""What a job is asked to do that publishes a folder which was trained elsewhere."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from registry.contracts.training_spec import TrainingSpec

PUBLISH: Final = "publish"


class PublishSpec(BaseModel):
    """An uploaded adapter, checked and normalised, on its way to a fingerprint and a revision."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["publish"] = PUBLISH
    base: str
    """Name of the base model."""
    base_digest: str
    adapter: str
    """Name of the adapter whose next revision the job publishes."""
    artifact: str
    """Digest of the normalised folder; the job keeps it until it has ended."""


JobSpec = TrainingSpec | PublishSpec
"""What any job is asked to do; `method` tells which."""

JOB_SPEC: Final[TypeAdapter[JobSpec]] = TypeAdapter(Annotated[JobSpec, Field(discriminator="method")])
