"""The whole of Lorry in one object: what runs, what moves, and what needs a person."""

from __future__ import annotations

from typing import Literal

from gateway.objects.job_estimate import JobEstimate
from gateway.objects.lists import ApiObject
from gateway.objects.rollouts import RolloutObject
from registry.batches.batch_state import BatchState
from registry.jobs.job_phase import JobPhase
from registry.jobs.job_state import JobState
from registry.states import ReplicaState


class PoolStatus(ApiObject):
    """The replicas of one pool and base model."""

    pool: str
    """Empty for engines that were entered by hand."""
    base: str
    base_digest: str | None
    """Digest of the base model; None where the registry does not have it."""
    engine: str
    ready: int
    """Replicas that take requests."""
    replicas: int
    load: int
    """Requests that run or wait there."""
    asleep: bool = False
    """It has no replica, and the next request wakes it (`min_replicas = 0`)."""


class ReplicaBrief(ApiObject):
    """A replica that is not ready."""

    id: str
    pool: str
    state: ReplicaState
    started_at: float
    message: str


class PartStatus(ApiObject):
    """A part of Lorry that has no port, on the gateway's machine."""

    part: str
    """`controller` or `trainer`."""
    seen_at: float
    is_silent: bool
    """Whether it was not seen at work for two minutes."""


class CurrentJob(ApiObject):
    """A job that has not ended."""

    id: str
    method: str
    adapter: str
    status: JobState
    phase: JobPhase | None
    doing: str | None = None
    """The phase in words, by the kind of job."""
    estimate: JobEstimate | None
    created_at: float


class BatchBrief(ApiObject):
    """A batch that has not ended."""

    id: str
    owner: str
    model: str | None
    status: BatchState
    total: int
    done: int
    """Requests with an answer or an error."""
    waits_for: str | None
    created_at: float


class DiskStatus(ApiObject):
    """Room on the disk of a folder that grows."""

    path: str
    free_bytes: int
    total_bytes: int
    is_low: bool


class Need(ApiObject):
    """Something that a person has to see to."""

    kind: Literal[
        "no_replica",
        "replica_not_ready",
        "adapter_not_proven",
        "rollout_aborted",
        "rollout_paused",
        "job_failed",
        "part_silent",
        "gateway_failing",
        "disk_low",
    ]
    subject: str
    """Name or id of what it is about."""
    message: str
    command: str
    """The command to type next."""


class SystemStatus(ApiObject):
    """The whole of Lorry at one moment."""

    object: Literal["status"] = "status"
    version: str
    at: float
    gateways: list[str]
    """Gateway processes of the machine that answers."""
    pools: list[PoolStatus]
    not_ready: list[ReplicaBrief]
    parts: list[PartStatus]
    disks: list[DiskStatus]
    rollouts: list[RolloutObject]
    """Open rollouts."""
    jobs: list[CurrentJob]
    """Jobs that run or are paused, and the first 20 of those that wait, oldest first."""
    queued_jobs: int
    """How many jobs wait."""
    batches: list[BatchBrief]
    """Batches that have not ended, oldest first."""
    needs: list[Need]
    """Empty where nothing needs a person."""
