"""Objects for operators: replicas, engines entered by hand, the audit log, health."""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue

from gateway.objects.adapters import SlotObject
from gateway.objects.lists import ApiObject
from registry.states import ReplicaState


class NamedSlot(SlotObject):
    """A revision in a replica, under its served name."""

    served_name: str


class ReplicaObject(ApiObject):
    """An inference server as it last described itself."""

    id: str
    base: str
    adapters_of: str = ""
    """The base model whose adapters it takes in place of its own's; empty for its own."""
    engine: str
    url: str
    """Address of the server, without the key that is part of it in the registry."""
    state: ReplicaState
    capacity: int
    """How many adapters the server can hold."""
    max_rank: int
    slots: list[NamedSlot]
    message: str
    started_at: float
    heartbeat_at: float
    pool: str
    """Name of the pool; empty for an engine that was entered by hand."""
    load: int
    """Requests that run or wait in the engine."""
    room: int
    """Requests that each gateway may have there at a time; 0 where the replica has not reported it."""
    paths: list[str]
    """Paths of the inference requests that the engine answers."""
    memory_bytes: int | None = None
    """Resident memory of the engine's processes, without that of devices; None where it is not known."""


class EnteredEngineObject(ApiObject):
    """An inference server that was started elsewhere and entered by hand."""

    id: str
    url: str
    """Address of the server, without the key that is part of it in the registry."""
    engine: str
    base: str
    capacity: int
    actor: str
    created_at: float


class RemovedEngine(ApiObject):
    """The answer when an entered engine is removed."""

    id: str
    deleted: Literal[True] = True
    state: ReplicaState | None
    """State of its replica; None where the replica has left already."""


class AuditEntryObject(ApiObject):
    """Who did what to which thing."""

    id: int
    at: float
    actor: str
    action: str
    subject: str
    detail: dict[str, JsonValue]


class Liveness(ApiObject):
    """The process answers."""

    status: Literal["ok"] = "ok"


class GatewayReadiness(ApiObject):
    """Whether some replica can serve requests, and this gateway follows the registry."""

    status: Literal["ready", "waiting", "failing"]
    replicas: int
    problems: list[str]
    """Background loops that are down, and readings of the registry that are too old."""
