"""`/admin/status`: what runs, what moves, and what needs a person."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Final

from fastapi import APIRouter

from gateway.admin.needs import NEWS_S, needs_of_jobs, needs_of_machine, needs_of_replicas, needs_of_rollouts
from gateway.admin.rollouts import rollout_object
from gateway.deps import Gateway, GatewayDep
from gateway.objects.status import (
    BatchBrief,
    CurrentJob,
    DiskStatus,
    PartStatus,
    PoolStatus,
    ReplicaBrief,
    SystemStatus,
)
from gateway.openai.job_estimate import estimate_of
from gateway.routing.sleeping import asleep_in
from registry.batches.batch import Batch
from registry.database import Registry, Snapshot
from registry.disk import all_beats
from registry.jobs.job import Job
from registry.states import ReplicaState
from registry.types import Replica

router = APIRouter(prefix="/admin/status", tags=["operating"])

SILENT_AFTER_S: Final = 120.0
LOW_BYTES: Final = 2_000_000_000
LOW_SHARE: Final = 0.05
ROOM_FOR_LONG: Final = 20_000_000_000
"""Unless the settings say more, a disk is low below `LOW_BYTES` of room, and below `LOW_SHARE` unless that leaves so
much."""
_LATEST_ROLLOUTS: Final = 200
QUEUED_SHOWN: Final = 20
"""So many of the jobs that wait are shown."""


@router.get("")
async def show_status(gateway: GatewayDep) -> SystemStatus:
    """Show what runs, what moves, and what needs a person; an empty `needs` means that nothing does."""
    return await gateway.ask(_status, gateway)


def _status(gateway: Gateway) -> SystemStatus:
    registry, now = gateway.registry, gateway.registry.transactions.now()
    snapshot = registry.snapshot()
    latest = registry.rollouts.list(limit=_LATEST_ROLLOUTS)
    jobs = registry.jobs.current(now - NEWS_S, QUEUED_SHOWN)
    parts = _parts(gateway.home)
    disks = _disks({gateway.home, registry.artifacts.disk}, gateway.settings.low_disk_bytes)
    return SystemStatus(
        version=version("lorry"),
        at=now,
        gateways=gateway.siblings.processes(),
        pools=_pools(snapshot),
        not_ready=[_brief(each) for each in snapshot.replicas if each.state is not ReplicaState.READY],
        parts=parts,
        disks=disks,
        rollouts=[rollout_object(each) for each in snapshot.rollouts],
        jobs=[_current(job, registry) for job in jobs if not job.state.is_terminal],
        queued_jobs=registry.jobs.queued_count(),
        batches=[_batch(batch) for batch in registry.batches.open()],
        needs=[
            *needs_of_replicas(snapshot.replicas, now, can_wake=bool(snapshot.sleeping_pools)),
            *needs_of_rollouts(latest, now),
            *needs_of_jobs(jobs),
            *needs_of_machine(parts, disks, gateway.problems(time.monotonic())),
        ],
    )


def _pools(snapshot: Snapshot) -> list[PoolStatus]:
    digests = {base.name: base.digest for base in snapshot.bases}
    pools: dict[tuple[str, str, str], list[Replica]] = {
        (pool.name, pool.base, pool.engine): [] for pool in asleep_in(snapshot)
    }
    for each in snapshot.replicas:
        pools.setdefault((each.pool, each.base, each.engine), []).append(each)
    return [
        PoolStatus(
            pool=pool,
            base=base,
            base_digest=digests.get(base),
            engine=engine,
            ready=sum(each.state is ReplicaState.READY for each in members),
            replicas=len(members),
            load=sum(each.load for each in members),
            asleep=not members,
        )
        for (pool, base, engine), members in sorted(pools.items())
    ]


def _brief(replica: Replica) -> ReplicaBrief:
    return ReplicaBrief(
        id=replica.id,
        pool=replica.pool,
        state=replica.state,
        started_at=replica.started_at,
        message=replica.message,
    )


def _parts(home: Path | None) -> list[PartStatus]:
    now = time.time()
    beats = {} if home is None else all_beats(home)
    return [PartStatus(part=part, seen_at=at, is_silent=now - at > SILENT_AFTER_S) for part, at in beats.items()]


def _disks(folders: Iterable[Path | None], low_bytes: int | None) -> list[DiskStatus]:
    """Return the room of each disk once, by the first of the folders on it; it is low below *low_bytes*, if given."""
    found: dict[int, DiskStatus] = {}
    for folder in sorted(each for each in folders if each is not None):
        if folder.exists():
            room = shutil.disk_usage(folder)
            least = low_bytes or max(LOW_BYTES, min(LOW_SHARE * room.total, ROOM_FOR_LONG))
            disk = DiskStatus(path=str(folder), free_bytes=room.free, total_bytes=room.total, is_low=room.free < least)
            found.setdefault(folder.stat().st_dev, disk)
    return list(found.values())


def _batch(batch: Batch) -> BatchBrief:
    return BatchBrief(
        id=batch.id,
        owner=batch.owner,
        model=batch.model,
        status=batch.state,
        total=batch.total,
        done=batch.completed + batch.failed,
        waits_for=batch.note or None,
        created_at=batch.created_at,
    )


def _current(job: Job, registry: Registry) -> CurrentJob:
    return CurrentJob(
        id=job.id,
        method=job.spec.method,
        adapter=job.spec.adapter,
        status=job.state,
        phase=job.phase,
        doing=job.doing,
        estimate=estimate_of(job, registry),
        created_at=job.created_at,
    )
