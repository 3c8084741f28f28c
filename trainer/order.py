"""What a worker tells its training child: one JSON file, read once at the start."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from registry.training_spec import TrainingSpec


class TrainingOrder(BaseModel):
    """Everything that a child needs; it knows neither database nor settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spec: TrainingSpec
    base_path: Path
    training_path: Path
    validation_path: Path | None
    job_folder: Path
    """Holds the folder of each attempt."""
    attempt_folder: Path
    """Only this attempt writes here, so that a child that was taken for dead disturbs nobody."""
    threads: int
    nice: int
    keep_checkpoints: int
    worker_pid: int
    """The child ends when this process does."""

    @property
    def final_folder(self) -> Path:
        """Where the adapter is when the child says that it has finished."""
        return self.attempt_folder / "final"


def spec_identity(spec: TrainingSpec) -> str:
    """sha256 of everything that decides the result, the base's digest included; a checkpoint fits no other spec."""
    return sha256(spec.model_dump_json().encode()).hexdigest()
