"""The questions that every kind of job answers about itself, so that no other file needs a case for each kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from registry.contracts.extensions.integrations import Integration
from registry.contracts.pictures.picture_part import PicturePart
from registry.rollouts.rollout import RolloutPlan
from registry.states import AdapterKind, CheckpointForm, Priority, ResultKind

LoraVariant = Literal["lora", "rslora", "pissa", "olora", "dora"]


class LoraSpec(BaseModel):
    """Shape of a LoRA adapter to train."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(default=16, ge=1, le=512)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    variant: LoraVariant = "lora"
    plus_ratio: float = Field(default=1.0, ge=1.0)
    """LoRA+: the learning rate of B as a multiple of that of A."""

    @property
    def changes_base(self) -> bool:
        """Whether the variant trains on a changed base model, so that its result must be converted."""
        return self.variant in ("pissa", "olora")

    @property
    def published_rank(self) -> int:
        """Rank of the adapter that is published, before it is padded to one that engines take."""
        # The conversion subtracts what the variant took out of the base, which takes as many ranks again.
        return 2 * self.rank if self.changes_base else self.rank


ADAPTER_KINDS: Final[Mapping[ResultKind, AdapterKind]] = {
    ResultKind.ADAPTER: AdapterKind.CHAT,
    ResultKind.REWARD: AdapterKind.REWARD,
}
"""Kind of result -> the kind of its series, for results that are revisions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuneFacts:
    """The fields of OpenAI's `fine_tuning.job` object that follow from a spec."""

    training_file: str
    validation_file: str | None
    hyperparameters: Mapping[str, int | float | str]
    method: Mapping[str, Any]
    """`{"type": M, M: {"hyperparameters": ...}}`."""
    seed: int
    metadata: Mapping[str, str]
    suffix: str | None
    integrations: Sequence[Mapping[str, Any]]
    extensions: Mapping[str, Any]
    """Fields that OpenAI's object lacks; the answer shows them under `lorry`."""


class JobSpec(BaseModel, ABC):
    """The request that a job carries out; a kind of job is a subclass that `registry.contracts.job_kinds` lists.

    The gateway writes a spec, the trainer reads it. Everything that differs between kinds is an attribute or a method
    here. A recipe in `trainer.recipes` does the work.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id_prefix: ClassVar[str]
    """First part of the ids of such jobs."""
    noun: ClassVar[str]
    """Name of such a job in messages: "Created {noun} job"."""
    recipe: ClassVar[str]
    """Module of `trainer.recipes` that does the work."""
    file_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields that hold the id of an uploaded file which the job reads."""
    artifact_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields that hold the digest of a folder which the job reads. The folder is kept until the job has ended."""

    phase_words: ClassVar[Mapping[str, str]] = {}
    """What such a job does in a phase, where it is something else than what a training job does."""

    reads_folders: ClassVar[bool] = False
    """Whether `artifacts` may name folders."""
    is_reproducible: ClassVar[bool] = False
    """Whether the work can be done again from this spec, so that its results can be compared."""

    stops_at_checkpoints: ClassVar[bool] = False
    """Whether a running job can stop at a checkpoint and go on later, so that it may give way to another one."""

    engines_go_first: ClassVar[bool] = True
    """Whether it leaves the processors to the engines of its machine, and stands still while they have much to do."""

    method: str
    """Name of the kind; each kind narrows the type to a literal with a default."""
    base: str
    """Name of the base model."""
    base_digest: str
    adapter: str
    """Name of the adapter whose next revision the job publishes, or first part of the name of a checkpoint."""

    @classmethod
    def method_name(cls) -> str:
        """Return the value of `method` that all jobs of this kind have."""
        return str(cls.model_fields["method"].default)

    @abstractmethod
    def provenance(self, files: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return what a revision remembers of this spec, as JSON.

        *files* has name, size and digest of each file that `files` names, by field.
        """

    @abstractmethod
    def published_message(self, name: str) -> str:
        """Return the event message for a result that was published under *name*."""

    def files(self) -> Mapping[str, str]:
        """Return the ids of the files that the job reads, by field; optional files that were not given are left out."""
        return self.model_dump(include=set(self.file_fields), exclude_none=True)

    def artifacts(self) -> Mapping[str, str]:
        """Return the digests of the folders that the job reads, by field."""
        return self.model_dump(include=set(self.artifact_fields), exclude_none=True)

    def alias(self, job_id: str, organisation: str) -> str | None:
        """Return a further name for the revision, the same at every attempt; None for no further name."""
        return None

    def result_kind(self) -> ResultKind:
        """Return what the job's result becomes."""
        return ResultKind.ADAPTER

    def checkpoint_form(self) -> CheckpointForm:
        """Return how the weights of a checkpoint are stored, for a job whose result is one."""
        return CheckpointForm.FULL

    def report_key(self) -> str | None:
        """Return the key of the work's report in the data of the job's events; None for a job without one."""
        return None

    def work_fields(self) -> Mapping[str, Any]:
        """Return the fields of the spec that a child carries out, its own for most kinds."""
        return self.model_dump(mode="json")

    def process_count(self) -> int:
        """Return how many processes do the work together."""
        return 1

    def threads(self) -> int | None:
        """Return the number of threads that the work needs; None leaves it to the worker's settings."""
        return None

    def reproduces(self) -> str | None:
        """Return the name of the result that the job makes again; None for a job that makes one of its own."""
        return None

    def libraries(self) -> frozenset[str]:
        """Return the optional libraries that the work needs; a child imports no others of them."""
        return frozenset()

    def named_pictures(self, paths: Mapping[str, Path]) -> Iterator[tuple[str, PicturePart]]:
        """Yield the pictures that are named in the job's files but stored elsewhere, each with its file's field.

        *paths* has the path of each file, by field.
        """
        return iter(())

    def names_pictures(self) -> bool:
        """Return whether `named_pictures` yields any, without a look into the files."""
        return False

    def lora_shape(self) -> LoraSpec | None:
        """Return the shape of the adapter that the job trains; None for a job that trains none."""
        return None

    def asked_models(self) -> frozenset[str]:
        """Return the models of this Lorry that the work sends chats to."""
        return frozenset()

    def remarks(self) -> Sequence[str]:
        """Return messages for the events of a new job: what was understood otherwise than it was asked."""
        return ()

    def queue_priority(self) -> Priority:
        """Return how the job waits for a worker: jobs of a higher priority are claimed first."""
        return Priority.NORMAL

    def checkpoint_alias(self, job_id: str, organisation: str, step: int) -> str:
        """Return the name by which OpenAI's clients address the checkpoint of a step."""
        return f"{self.alias(job_id, organisation) or self.adapter}:ckpt-step-{step}"

    def is_light(self) -> bool:
        """Whether the job may be trained in one process with others that leave its base model as it is."""
        return False

    def integrations_asked(self) -> Sequence[Integration]:
        """Return the experiment trackers that get the job's figures."""
        return ()

    def serves_steps(self) -> bool:
        """Whether steps of the job are served by names of their own, beside the result."""
        return False

    def speed_fields(self) -> Mapping[str, Any]:
        """Return what the time for a piece of the work depends on; jobs with the same fields are equally fast."""
        return {}

    def memory_kind(self) -> str:
        """Return the kind of jobs whose measured memory and speed are of use for this one's."""
        return self.method

    def workload(self, sizes: Mapping[str, int]) -> float | None:
        """Return an amount that the time grows with; None where *sizes* (id -> bytes) lacks a file."""
        return 1.0

    def rollout_plan(self) -> RolloutPlan | None:
        """Return the plan of the rollout that starts when the result is published; None publishes only."""
        return None

    def fine_tune_facts(self) -> FineTuneFacts | None:
        """Return the fields for OpenAI's object; None keeps the job out of `/v1/fine_tuning/jobs`."""
        return None
