"""The rows of the registry as frozen values. Times are unix seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from registry.states import AdapterKind, CheckpointForm, ReplicaState, ReportState, RevisionState, SlotState

LOCAL_TENANT: Final = "local"
"""The tenant of everything that is made while there are no keys."""

LOAD_TESTS: Final = "load_tests"
"""Key in the provenance of a checkpoint: kind of engine -> the last result of trying it there."""

COMPLETION_PATHS: Final = ("/v1/chat/completions", "/v1/completions")


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """Frozen weights that adapters are trained for."""

    name: str
    path: str
    """Hugging Face folder, absolute."""
    digest: str
    """sha256 over the folder's manifest (`artifacts.folder_digest`); two bases of one name differ in it."""
    licence: str
    created_at: float
    parent: str | None = None
    """Name of the base model that a job made this one from; None for a folder that was entered."""
    job_id: str | None = None
    owner: str = ""
    """Who asked for that job; empty for a folder that was entered."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """As of a `Revision`. Empty in snapshots."""
    step: int | None = None
    """The step of that job whose weights these are."""
    alias: str | None = None
    """Another name, `ft:<base>:<organisation>:<suffix>:<id>:ckpt-step-<step>`."""
    expires_at: float | None = None
    """When an earlier step of a job is deleted, unless something uses it then; None for what stays."""

    @property
    def is_checkpoint(self) -> bool:
        """Whether a job made these weights; their folder is then the artifact of this digest."""
        return self.parent is not None

    @property
    def is_quantized_parent(self) -> bool:
        """Whether these are the parent's weights in fewer bits, without an adapter merged in. Not of a snapshot's."""
        return self.is_checkpoint and "quantization" in self.provenance and "adapter" not in self.provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A named series of revisions for one base model."""

    name: str
    base: str
    stable: int | None
    """Number of the revision that callers get; None until the first revision is served somewhere."""
    previous_stable: int | None
    stable_since: float | None
    created_at: float
    kind: AdapterKind = AdapterKind.CHAT


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """An immutable member of an adapter's series."""

    adapter: str
    number: int
    state: RevisionState
    artifact: str
    """Digest of the folder with `adapter_config.json` and `adapter_model.safetensors`."""
    base: str
    base_digest: str
    rank: int
    target_modules: tuple[str, ...]
    alias: str | None
    """Another name for the pinned revision, `ft:<base>:<organisation>:<adapter>:<id>`."""
    job_id: str | None
    owner: str
    created_at: float
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Dataset digest, hyperparameters, seed, versions, final metrics and times. Empty in snapshots."""

    @property
    def served_name(self) -> str:
        """The string by which engines know this revision."""
        return f"{self.adapter}@{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedCheckpoint(Revision):
    """The weights of a step of a job that trains `adapter`; `number` is 0 until the job has published a revision.

    A checkpoint answers requests by its own names only: no route, rollout or rollback leads to it. The checkpoint of a
    reward model answers none, and graders name it.
    """

    step: int
    kind: AdapterKind
    known_as: str
    is_result: bool
    """Whether the job published the weights of this very step, so that the name stands for the revision itself."""
    expires_at: float | None
    """When the checkpoint is retired; None for the result, which stays as long as its revision."""

    @property
    def served_name(self) -> str:
        """The string by which engines, or graders, know this checkpoint."""
        return self.known_as

    @property
    def revision(self) -> str | None:
        """Served name of the revision that its job published; None until then."""
        return f"{self.adapter}@{self.number}" if self.number else None

    @property
    def is_served(self) -> bool:
        """Whether requests may name the checkpoint, and it is not the revision itself."""
        return self.kind is AdapterKind.CHAT and not self.is_result


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedCheckpointDraft:
    """A step of a job that is published, alone while the job runs or together with its result."""

    step: int
    alias: str
    folder: Path | None
    """As the result's folder is for the kind of job; None for the step whose weights are the result."""
    expires_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionDraft:
    """The fields of a revision that its publisher sets; number, rank and targets follow from registry and folder."""

    adapter: str
    base: str
    owner: str
    alias: str | None = None
    job_id: str | None = None
    kind: AdapterKind = AdapterKind.CHAT
    provenance: Mapping[str, Any] = field(default_factory=dict)
    checkpoints: tuple[ServedCheckpointDraft, ...] = ()
    """Earlier steps of the same job that are served for some time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointDraft:
    """The fields of a checkpoint that its publisher sets; name, path and digest follow from registry and folder."""

    series: str
    """First part of the checkpoint's name; a number follows."""
    parent: str
    owner: str
    tenant: str
    is_shared: bool
    """Whether every key may use the checkpoint; otherwise the keys of *tenant*, admin keys and keys that name it."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[ServedCheckpointDraft, ...] = ()
    """Steps of the same job that are kept for some time, and the one whose weights are the result."""
    form: CheckpointForm = CheckpointForm.FULL


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """An uploaded or produced file, its bytes in the artifact store."""

    id: str
    filename: str
    purpose: str
    size_bytes: int
    digest: str
    created_at: float
    owner: str
    tenant: str
    """Whose keys see the file."""
    expires_at: float | None = None
    """When the file is removed; None keeps it until it is deleted."""
    report_state: ReportState | None = None
    """How far the report on a training file is; None where none is made."""
    report_message: str | None = None
    """Summary of the report, or why there is none."""
    report_attempt: int = 0
    report_beat: int = 0
    """Grows while an attempt at the report goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A revision in one replica."""

    served_name: str
    state: SlotState
    reason: str = ""
    """Why the slot failed: `load_failed`, `fingerprint_mismatch` or `no_fingerprint`."""
    message: str = ""
    proof: Mapping[str, Any] | None = None
    """The numbers of the last replay of the fingerprint in this replica; None before the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A replica as it last reported itself."""

    id: str
    base: str
    engine: str
    """Kind of the engine, a key of the engine catalog."""
    url: str
    """`http://host:port` of the inference server."""
    state: ReplicaState
    capacity: int
    """How many adapters the replica can hold."""
    max_rank: int = 0
    """Highest LoRA rank that the replica accepts; 0 if not reported."""
    slots: tuple[Slot, ...]
    message: str
    started_at: float
    heartbeat_at: float
    pool: str = ""
    """Name of the pool; empty for an engine that was entered by hand."""
    load: int = 0
    """Requests that run or wait in the engine by the engine's own figures, which may be seconds old."""
    room: int = 0
    """Requests that each gateway may have in this replica at a time; 0 if not reported."""
    paths: tuple[str, ...] = COMPLETION_PATHS
    """Paths of inference requests that the engine answers, sorted; the two of completions if not reported."""
    memory_bytes: int | None = None
    """Resident memory of the engine's processes, which may be some seconds old; None if not reported."""
    reads_calls: bool = True
    """False where the engine would leave the tool calls of its model in the text."""
    adapters_of: str = ""
    """Another base model, whose adapters it takes in place of its own's: the one that its own was quantized from."""

    @property
    def adapter_base(self) -> str:
        """Name of the base model whose adapters the replica takes."""
        return self.adapters_of or self.base


@dataclass(frozen=True, slots=True, kw_only=True)
class EnteredEngine:
    """An inference server that was started elsewhere and entered by hand."""

    id: str
    url: str
    engine: str
    base: str
    capacity: int
    actor: str
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """The demand for one revision over all gateways."""

    served_name: str
    used_at: float
    """When a request last named the revision."""
    in_flight: float
    """Requests at a time, on average over the last minutes in which there were any; 0 if that is long ago."""
    awaited_since: float | None = None
    """Since when requests have waited for the revision, which no replica had; None once that is some time ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """An entry of the audit log: who did what to which thing."""

    id: int
    at: float
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]
