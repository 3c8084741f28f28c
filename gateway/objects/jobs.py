"""Jobs of the trainer: OpenAI's fine-tuning job, jobs of other kinds, their events and checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue, RootModel

from gateway.objects.job_estimate import JobEstimate
from gateway.objects.lists import ApiObject, ListedObject
from registry.contracts.unfit_rows import UnfitRows
from registry.jobs.job_phase import JobPhase
from registry.jobs.job_state import JobState
from registry.states import ResultKind, RevisionState


class JobErrorObject(ApiObject):
    """Why a job failed."""

    code: str
    message: str
    param: str | None


class QueuePlace(ApiObject):
    """How a queued job waits for a worker."""

    place: int
    """1 for the job that begins next."""
    of: int
    """How many jobs wait."""
    waits_for: list[str]
    """Ids of the jobs that it comes after and that have not succeeded yet."""
    reason: str | None
    """Why it cannot begin now whatever workers are free; None where a free worker is all that it waits for."""


class JobFacts(ApiObject):
    """Lorry's additions to OpenAI's job object; some kinds of jobs add further fields."""

    model_config = ConfigDict(extra="allow")

    adapter: str
    base_digest: str | None = None
    """Digest of the base model that the job starts from."""
    revision: str | None
    """Served name of the revision that the job published."""
    owner: str
    attempt: int
    """How many times a worker has started the job."""
    worker: str | None
    started_at: int | None = None
    """When a worker first started it; None while it waits."""
    phase: JobPhase | None = None
    """The phase of a running job."""
    doing: str | None = None
    """The phase in words, by the kind of job."""
    phase_since: int | None = None
    estimate: JobEstimate | None = None
    """None for a job that does not wait or run, and where nothing was measured that it could follow from."""
    after: list[str] = Field(default_factory=list)
    """Ids of the jobs that must have succeeded before it begins."""
    queue: QueuePlace | None = None
    """None unless the job is queued."""
    expected_start: int | None = None
    """For a queued job; None where the time of the jobs before it is unknown, or no worker is known."""
    expected_finish: int | None = None
    """For a job that is queued or running; None where it is unknown."""
    needed_bytes: int | None = None
    """Most memory of a device that the job is expected to take; None where nobody has estimated it."""
    gives_way: bool = False
    """Whether it is asked to stop at a checkpoint for a job of a higher priority, and to go on later."""
    unfit_rows: dict[str, UnfitRows] = Field(default_factory=dict)
    """Field that names a file (`training_file`, `validation_file`) -> the rows of it that were left out or cut."""


class JobMethod(ApiObject):
    """The kind of a job; a fine-tuning job adds a field by the name of its `type`, with the hyperparameters."""

    model_config = ConfigDict(extra="allow")

    type: str


class JobObject(ListedObject):
    """The fields that the jobs of all kinds have."""

    created_at: int
    finished_at: int | None
    model: str
    """Name of the base model."""
    status: JobState
    error: JobErrorObject | None
    lorry: JobFacts
    object: str
    method: JobMethod

    def details(self) -> Sequence[tuple[str, str | int | None]]:
        """Return names and values that a terminal shows only for this kind of job; None is left out."""
        return ()


class FineTuningJob(JobObject):
    """OpenAI's `fine_tuning.job`."""

    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    estimated_finish: int | None
    fine_tuned_model: str | None
    organization_id: str
    training_file: str
    validation_file: str | None
    result_files: list[str]
    hyperparameters: dict[str, int | float | str]
    seed: int
    trained_tokens: int | None
    integrations: list[JsonValue]
    metadata: dict[str, str]
    user_provided_suffix: str | None

    def details(self) -> Sequence[tuple[str, str | int | None]]:
        """Return files, hyperparameters, seed, trained tokens and the alias of the revision."""
        hyperparameters = ", ".join(f"{name} {value}" for name, value in self.hyperparameters.items())
        return (
            ("training file", self.training_file),
            ("validation file", self.validation_file),
            ("result file", ", ".join(self.result_files) or None),
            ("hyperparameters", hyperparameters or None),
            ("seed", self.seed),
            ("trained tokens", self.trained_tokens),
            ("model name", self.fine_tuned_model),
        )


class JobWithSpec(JobObject):
    """A job as operators see it, with the spec that the trainer runs."""

    spec: dict[str, JsonValue]
    filenames: dict[str, str] = Field(default_factory=dict)
    """Field of the spec -> name of its file, for one job that is shown alone; a deleted file has none."""
    report: dict[str, JsonValue] | None = None
    """The measurements of the work, for one job that is shown alone; None for kinds without a report, and before it."""

    def details(self) -> Sequence[tuple[str, str | int | None]]:
        """Return each part of the report."""
        return [(name.replace("_", " "), _in_line(value)) for name, value in (self.report or {}).items()]


def _in_line(value: JsonValue) -> str | None:
    """Return a JSON value as one line; None for nothing."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_in_line(each)}" for name, each in value.items()) or None
    if isinstance(value, list):
        return ", ".join(str(_in_line(each)) for each in value) or "none"
    return f"{value:.4g}" if isinstance(value, float) else None if value is None else str(value)


class FineTuningJobWithSpec(FineTuningJob):
    """A fine-tuning job as operators see it, with the spec that the trainer runs."""

    spec: dict[str, JsonValue]
    filenames: dict[str, str] = Field(default_factory=dict)
    """Field of the spec -> name of its file, for one job that is shown alone; a deleted file has none."""

    def details(self) -> Sequence[tuple[str, str | int | None]]:
        """Return the details of a fine-tuning job, each file with its name."""
        names = {field.replace("_", " "): name for field, name in self.filenames.items()}
        named = super().details()
        return [(title, f"{names[title]} ({value})" if title in names else value) for title, value in named]


class AnyJob(RootModel[Annotated[FineTuningJobWithSpec | JobWithSpec, Field(union_mode="left_to_right")]]):
    """A job of any kind as operators see it."""

    model_config = ConfigDict(frozen=True, defer_build=True)


class JobEventObject(ListedObject):
    """A line of a job's log."""

    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, JsonValue]
    """Figures of one training step for `metrics`."""


class StepFigures(ApiObject):
    """The figures in the data of every `metrics` event; kinds of jobs add figures of their own."""

    step: int
    total_steps: int
    train_loss: float


class CheckpointState(ApiObject):
    """The kind of a checkpoint, and whether it is kept."""

    kind: ResultKind
    """`adapter` answers requests, `checkpoint` is a whole model that a pool can serve, `reward` is named by graders."""
    served_name: str | None = None
    """The string by which engines, pools and graders know it; None until it is published."""
    state: RevisionState | None = None
    """None until it is published; `retired` after its time, or when somebody deleted it."""
    expires_at: int | None = None


class JobCheckpointObject(ListedObject):
    """A checkpoint: a step from which a job can go on, and that is served once the job has succeeded."""

    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: dict[str, JsonValue]
    lorry: CheckpointState
