"""A registry of any size: so many adapters with one revision each, on so many replicas that nobody runs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from registry import tables
from registry.database import Registry, Snapshot, open_registry
from registry.schema import migrate
from registry.settings import RegistrySettings
from registry.states import ReplicaState, SlotState
from registry.types import Replica, Slot

BASE: Final = "tiny"
CAPACITY: Final = 64


def settings_in(folder: Path) -> RegistrySettings:
    """Return the settings of a SQLite registry below *folder*, which is migrated."""
    settings = RegistrySettings(url=f"sqlite:///{folder / 'registry.db'}", artifacts=folder / "artifacts")
    migrate(settings.url)
    return settings


def snapshot_of(adapters: int, replicas: int) -> Snapshot:
    """Return the snapshot of a registry of that size."""
    with tempfile.TemporaryDirectory() as scratch:
        registry = open_registry(settings_in(Path(scratch)))
        fill(registry, adapters, replicas)
        found = registry.snapshot()
        registry.close()
    return found


def fill(registry: Registry, adapters: int, replicas: int) -> None:
    """Make every adapter's first revision stable, and enter replicas that have `CAPACITY` of them each."""
    names = [f"adapter-{number:05}" for number in range(adapters)]
    with registry.transactions.write() as tx:
        base = {"name": BASE, "path": "/nowhere", "digest": "0" * 64, "licence": "apache-2.0", "created_at": 0.0}
        tx.execute(sa.insert(tables.bases).values(base))
        tx.execute(sa.insert(tables.adapters), [_adapter(name) for name in names])
        tx.execute(sa.insert(tables.revisions), [_revision(name) for name in names])
    for number in range(replicas):
        first = number * CAPACITY
        registry.replicas.report(replica(number, (names[(first + slot) % adapters] for slot in range(CAPACITY))))


def replica(number: int, names: Iterable[str]) -> Replica:
    """Return a ready replica that has the first revision of each of *names*."""
    slots = {name: Slot(served_name=f"{name}@1", state=SlotState.READY) for name in names}
    return Replica(
        id=f"host-vllm-{number:06}",
        base=BASE,
        engine="vllm",
        url=f"http://127.0.0.1:{10_000 + number}",
        state=ReplicaState.READY,
        capacity=CAPACITY,
        slots=tuple(slots.values()),
        message="",
        started_at=0.0,
        heartbeat_at=0.0,
        pool="default",
    )


def _adapter(name: str) -> dict[str, object]:
    return {
        "name": name, "base": BASE, "stable": 1, "previous_stable": None, "stable_since": 0.0, "created_at": 0.0,
    }  # fmt: skip


def _revision(name: str) -> dict[str, object]:
    return {
        "adapter": name, "number": 1, "state": "ready", "artifact": "0" * 64, "base": BASE, "base_digest": "0" * 64,
        "rank": 16, "target_modules": ["q_proj", "v_proj"], "alias": f"ft:{BASE}:lorry:{name}:1", "job_id": None,
        "owner": "load", "provenance": {}, "created_at": 0.0,
    }  # fmt: skip
