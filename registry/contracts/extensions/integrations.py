"""Where a job's figures go besides its events: experiment trackers that its author names."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from registry.wording.field_faults import written_as
from registry.wording.known_fields import KnownFields

MLFLOW: Final = "mlflow"
"""The type of a tracker and the library of that name, which DeepSpeed imports too where it is installed."""
MOST_INTEGRATIONS: Final = 5
"""How many a job may have, as at OpenAI."""

Name = Annotated[str, Field(min_length=1, max_length=128)]


class WandbOptions(KnownFields):
    """OpenAI's options of Weights & Biases."""

    model_config = ConfigDict(frozen=True)

    project: Name
    name: Name | None = None
    """Name of the run; the job's id without one."""
    entity: Name | None = None
    tags: Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=50)] | None = None


class MlflowOptions(KnownFields):
    """A run of an experiment in MLflow."""

    model_config = ConfigDict(frozen=True)

    experiment: Name
    name: Name | None = None
    tags: Annotated[dict[Name, Annotated[str, Field(max_length=500)]], Field(max_length=50)] | None = None


RunName = Annotated[
    str, written_as(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", "at most 128 letters, digits and . _ -, the first no sign")
]


class TensorBoardOptions(KnownFields):
    """A run in TensorBoard's event files."""

    model_config = ConfigDict(frozen=True)

    name: RunName | None = None


class Integration(KnownFields):
    """A tracker by its type, with its options under the name of the type."""

    model_config = ConfigDict(frozen=True)

    type: Literal["wandb", "mlflow", "tensorboard"]
    wandb: WandbOptions | None = None
    mlflow: MlflowOptions | None = None
    tensorboard: TensorBoardOptions | None = None

    @model_validator(mode="after")
    def _has_its_own_options(self) -> Self:
        given = {name for name, value in self if name != "type" and value is not None}
        if others := sorted(given - {self.type}):
            raise ValueError(f"{others[0]} does not go with type {self.type}")
        if self.type != "tensorboard" and not given:
            raise ValueError(f"{self.type} is missing: the options of the integration")
        return self

    @property
    def module(self) -> str:
        """Return the module of the tracker's library; each is named like its type."""
        return self.type

    def as_object(self) -> dict[str, Any]:
        """Return the integration as OpenAI's job object shows it."""
        return self.model_dump(exclude_none=True)
