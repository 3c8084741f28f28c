"""Rows that replicas write to the registry."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from registry.states import ReplicaState
from registry.types import Replica

_READY: Final = Replica(
    id="",
    base="tiny",
    engine="transformers",
    url="http://127.0.0.1:1",
    state=ReplicaState.READY,
    capacity=8,
    slots=(),
    message="",
    started_at=0.0,
    heartbeat_at=0.0,
)


def replica_row(replica_id: str, **fields: Any) -> Replica:
    """Return the row of a ready replica of `tiny` at an address where nothing answers, but for *fields*."""
    return replace(_READY, id=replica_id, **fields)
