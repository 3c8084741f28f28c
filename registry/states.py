"""States and kinds of rows, as the registry stores them and answers show them. Few imports: commands read them too."""

from __future__ import annotations

from enum import StrEnum


class RevisionState(StrEnum):
    """Whether a revision may be served; its weights never change in any state."""

    READY = "ready"  # whole, checked, may be served
    RETIRED = "retired"  # kept for the record, no longer served


class AdapterKind(StrEnum):
    """The use of a series of revisions, the same for all of its revisions."""

    CHAT = "chat"  # answers requests
    REWARD = "reward"  # scores answers for graders; listed, never routed and loaded in no replica


class CheckpointForm(StrEnum):
    """How a checkpoint's weights are stored, as compared with its parent's."""

    FULL = "full"  # the same tensors in the same types
    QUANTIZED = "quantized"  # those of linear layers packed, in the format of compressed-tensors
    GGUF = "gguf"  # one file of that format


class ResultKind(StrEnum):
    """The thing in the registry that a job's result becomes."""

    ADAPTER = "adapter"  # a revision of an adapter that answers requests
    CHECKPOINT = "checkpoint"  # a base model with weights of its own
    REWARD = "reward"  # a revision of a series of reward models, which no replica loads
    COMPARISON = "comparison"  # a report on how it differs from a recorded result; it is not kept itself


class ReplicaState(StrEnum):
    """The state that a replica reports of itself."""

    STARTING = "starting"  # its engine does not answer yet, or not every adapter it should have was tried
    READY = "ready"  # its engine answers, every adapter it should have is proven or failed
    UNHEALTHY = "unhealthy"  # its engine stopped answering; the replica restarts it
    DRAINING = "draining"  # takes no new request and finishes those under way
    GONE = "gone"  # departed, or its heartbeat is overdue


class SlotState(StrEnum):
    """The state of one revision in one replica."""

    LOADING = "loading"  # on its way into the engine, or waiting for a place there
    PROVING = "proving"  # in the engine, its fingerprint is being replayed
    READY = "ready"  # proven, takes traffic
    FAILED = "failed"  # retried after a pause; reason and message say why


class Priority(StrEnum):
    """The order in which requests wait when replicas are full."""

    HIGH = "high"  # before all others
    NORMAL = "normal"
    LOW = "low"  # when nothing else waits


class ReportState(StrEnum):
    """How far the report on a training file is."""

    WAITING = "waiting"
    WORKING = "working"
    DONE = "done"
    FAILED = "failed"
