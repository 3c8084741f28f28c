"""What a training child reports: one JSON object a line on a pipe."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from trainer.errors import ProgressInvalid


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Noted(_Message):
    """A sentence for the job's story."""

    kind: Literal["noted"] = "noted"
    message: str
    level: Literal["info", "warn"] = "info"
    data: dict[str, Any] = Field(default_factory=dict)


class Stepped(_Message):
    """One optimisation step is done."""

    kind: Literal["stepped"] = "stepped"
    step: int
    total_steps: int
    train_loss: float
    """Mean over the step's learnt tokens."""
    train_mean_token_accuracy: float
    learning_rate: float
    tokens: int
    """Read since the job began, prompts included, padding not."""
    eta_s: float
    """At the mean pace of this attempt."""


class CheckpointSaved(_Message):
    """A whole checkpoint is on disk."""

    kind: Literal["checkpoint_saved"] = "checkpoint_saved"
    step: int
    metrics: dict[str, Any]


class Stopped(_Message):
    """The child was asked to stop and did so, at a checkpoint unless it had not begun."""

    kind: Literal["stopped"] = "stopped"
    step: int


class Failed(_Message):
    """The job cannot succeed."""

    kind: Literal["failed"] = "failed"
    code: str
    message: str
    param: str = ""


class Finished(_Message):
    """The adapter is in the order's final folder."""

    kind: Literal["finished"] = "finished"
    metrics: dict[str, Any]
    trained_tokens: int
    versions: dict[str, str]


Progress = Noted | Stepped | CheckpointSaved | Stopped | Failed | Finished
_PROGRESS: TypeAdapter[Progress] = TypeAdapter(Annotated[Progress, Field(discriminator="kind")])


class ProgressPipe:
    """The child's end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def send(self, progress: Progress) -> None:
        """Hand *progress* to the worker. Raises `BrokenPipeError` when it is gone."""
        line = progress.model_dump_json().encode() + b"\n"
        while line:
            line = line[os.write(self._descriptor, line) :]


def parse_progress(line: bytes) -> Progress:
    """The progress on *line*, else `ProgressInvalid`."""
    try:
        return _PROGRESS.validate_json(line)
    except ValidationError as exc:
        raise ProgressInvalid(f"no progress of a child: {line[:200]!r}") from exc
