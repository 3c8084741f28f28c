"""The order that a worker gives to its child: one JSON file, read once at the start."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, field_validator

from registry.contracts.job_kinds import spec_from
from registry.contracts.job_spec import JobSpec
from registry.contracts.pictures.picture_sources import PictureSources
from registry.errors import NotFound

Spec_co = TypeVar("Spec_co", bound=JobSpec, covariant=True)


class PictureFiles(BaseModel):
    """The places of the pictures that training files name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    uploaded: Mapping[str, Path] = Field(default_factory=dict)
    """File id -> the verified file."""
    folder: Path | None = None
    """Folder below which paths are read."""

    def sources(self) -> PictureSources:
        """Return what reads the pictures."""
        return PictureSources(find_file=self._find, folder=self.folder)

    def _find(self, file_id: str) -> Path:
        if file_id not in self.uploaded:
            raise NotFound(f"there is no file {file_id!r}")
        return self.uploaded[file_id]


class ChildOrder(BaseModel, Generic[Spec_co]):
    """Everything that a child needs for a job of any kind; a child reads neither database nor settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spec: SerializeAsAny[Spec_co]
    base_path: Path
    inputs: Mapping[str, Path]
    """Field of the spec -> the verified file or folder that it names; fields without a value are left out."""
    pictures: PictureFiles = PictureFiles()
    job_folder: Path
    """Holds the folder of each attempt."""
    attempt_folder: Path
    """Only this attempt writes here, so that a child that was taken for dead disturbs no other."""
    keep_checkpoints: int
    threads: int
    nice: int
    model_requests: int | None = None
    """Descriptor of the socket over which the child may ask its worker for answers of models; None if it may not."""
    ray_address: str | None = None
    """Address of the Ray cluster that places the further processes of the job; None for this machine, without Ray."""
    worker_pid: int
    """The child ends when this process does."""

    @field_validator("spec", mode="before")
    @classmethod
    def _read_spec(cls, value: Any) -> Any:
        """Read the spec of an order file as the class of its kind."""
        return spec_from(value) if isinstance(value, dict) else value

    def served_folder(self, step: int) -> Path:
        """Return the folder of an earlier step that is served beside the result; as `final_folder` has it."""
        return served_folder(self.attempt_folder, step)

    @property
    def final_folder(self) -> Path:
        """Folder of the adapter, normalised and with its fingerprint, once the child has reported its end."""
        return self.attempt_folder / "final"


def served_folder(attempt_folder: Path, step: int) -> Path:
    """Return the folder for an earlier step that an attempt publishes beside its result."""
    return attempt_folder / f"served-{step}"


def spec_identity(spec: JobSpec) -> str:
    """Return the sha256 of everything that decides the result; a checkpoint fits only the spec that it came from."""
    return sha256(spec.model_dump_json().encode()).hexdigest()
