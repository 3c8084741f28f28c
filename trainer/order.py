"""What a worker tells its child: one JSON file, read once at the start."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, TypeAdapter

from registry.contracts.publish_spec import PublishSpec
from registry.contracts.training_spec import TrainingSpec


class ChildOrder(BaseModel):
    """What every child needs; it knows neither database nor settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_path: Path
    job_folder: Path
    """Holds the folder of each attempt."""
    attempt_folder: Path
    """Only this attempt writes here, so that a child that was taken for dead disturbs nobody."""
    threads: int
    nice: int
    worker_pid: int
    """The child ends when this process does."""

    @property
    def final_folder(self) -> Path:
        """Where the adapter is, normalised and with its fingerprint, when the child says that it has finished."""
        return self.attempt_folder / "final"


class TrainingOrder(ChildOrder):
    """Train an adapter."""

    spec: TrainingSpec
    training_path: Path
    validation_path: Path | None
    keep_checkpoints: int


class PublishOrder(ChildOrder):
    """Prove an adapter that was trained elsewhere."""

    spec: PublishSpec
    adapter_path: Path
    """The normalised folder."""


Order = TrainingOrder | PublishOrder

ORDER: Final[TypeAdapter[Order]] = TypeAdapter(Order)


def spec_identity(spec: TrainingSpec) -> str:
    """sha256 of everything that decides the result, the base's digest included; a checkpoint fits no other spec."""
    return sha256(spec.model_dump_json().encode()).hexdigest()
