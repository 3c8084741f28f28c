"""Messages from a training child to its worker: one JSON object a line on a pipe."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Mapping
from threading import Thread
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from registry.contracts.unfit_rows import UnfitRows
from registry.jobs.job_phase import JobPhase
from trainer.errors import ChildCrashed, ProgressInvalid


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Noted(_Message):
    """A message for the job's events."""

    kind: Literal["noted"] = "noted"
    message: str
    level: Literal["info", "warn"] = "info"
    data: dict[str, Any] = Field(default_factory=dict)


class Stepped(_Message):
    """The figures of one optimisation step."""

    kind: Literal["stepped"] = "stepped"
    step: int
    total_steps: int
    train_loss: float
    """Mean over the step's items: learnt tokens, pairs or whatever the method counts."""
    learning_rate: float
    tokens: int
    """Tokens learnt from since the job began, prompts and sampled outputs included, padding not."""
    eta_s: float
    """Seconds to the end at the mean speed of this attempt."""
    figures: Mapping[str, float] = Field(default_factory=dict)
    """The figures that the method measures of its own, such as `train_mean_token_accuracy`."""


class RowsRead(_Message):
    """A file of the job was read, and some of its rows do not fit."""

    kind: Literal["rows_read"] = "rows_read"
    field: str
    """Field of the job that names the file."""
    unfit: UnfitRows


class PhaseBegan(_Message):
    """The child does something else from now on."""

    kind: Literal["phase"] = "phase"
    phase: JobPhase


class CheckpointSaved(_Message):
    """A complete checkpoint is on disk."""

    kind: Literal["checkpoint_saved"] = "checkpoint_saved"
    step: int
    metrics: dict[str, Any]


class StepWritten(_Message):
    """The folder of a kept step is whole, so that the step can be published while the run goes on."""

    kind: Literal["step_written"] = "step_written"
    step: int


class RecipeStopped(_Message):
    """The child was asked to stop and did so, at a checkpoint unless it had not begun."""

    kind: Literal["stopped"] = "stopped"
    step: int


class RecipeFailed(_Message):
    """The job cannot succeed."""

    kind: Literal["failed"] = "failed"
    code: str
    message: str
    param: str = ""


class RecipeFinished(_Message):
    """The adapter is in the order's final folder."""

    kind: Literal["finished"] = "finished"
    metrics: dict[str, Any]
    trained_tokens: int | None
    """None from a recipe that trains nothing; then the revision records no metrics either."""
    versions: dict[str, str]
    result_step: int | None = None
    """The step whose weights are the result; None from a recipe that trains nothing."""
    served_steps: tuple[int, ...] = ()
    """Further steps that are published, each in its folder of the attempt."""
    peak_bytes: int | None = None
    """Most memory that the child's processes had: resident, or of a GPU; None where it is no single job's."""
    machine: dict[str, str]
    """Facts of the machine on which the last digits depend, the number of threads among them."""
    provenance: dict[str, Any] = Field(default_factory=dict)
    """Fields of the result's provenance that only the work itself has."""


Progress = (
    Noted
    | Stepped
    | RowsRead
    | PhaseBegan
    | CheckpointSaved
    | StepWritten
    | RecipeStopped
    | RecipeFailed
    | RecipeFinished
)
Report = Callable[[Progress], None]
"""Sends a message to the worker."""
StopAsked = Callable[[], bool]
_PROGRESS: TypeAdapter[Progress] = TypeAdapter(Annotated[Progress, Field(discriminator="kind")])


class ProgressPipe:
    """The child's end of the pipe."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def send(self, progress: Progress) -> None:
        """Send *progress* to the worker. Raises `BrokenPipeError` when the worker is gone."""
        line = progress.model_dump_json().encode() + b"\n"
        # A write to a pipe may be partial, also in the middle of a line.
        while line:
            line = line[os.write(self._descriptor, line) :]


class ProgressReader:
    """The worker's end of the pipe."""

    def __init__(self, descriptor: int, describe_end: Callable[[], str]) -> None:
        """Take over *descriptor*; *describe_end* returns how the process ended at the other end."""
        self._describe_end = describe_end
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        # A thread empties the pipe all the time: a child must not block on it while the worker waits for the registry.
        self._thread = Thread(target=self._read, args=(descriptor,), name="progress", daemon=True)
        self._thread.start()

    def next_progress(self, timeout_s: float) -> Progress | None:
        """Return the next message, None when none came in time. Raises `ChildCrashed` when the pipe was closed."""
        try:
            line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if line is None:
            raise ChildCrashed(self._describe_end())
        return parse_progress(line)

    def join(self, timeout_s: float) -> None:
        """Wait until the other end has been closed."""
        self._thread.join(timeout=timeout_s)

    def _read(self, descriptor: int) -> None:
        with os.fdopen(descriptor, "rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):  # a child that was killed may leave half a line
                    self._lines.put(line)
        self._lines.put(None)


def parse_progress(line: bytes) -> Progress:
    """Return the message on *line*, else raise `ProgressInvalid`."""
    try:
        return _PROGRESS.validate_json(line)
    except ValidationError as exc:
        raise ProgressInvalid(f"not a message of a child: {line[:200]!r}") from exc
