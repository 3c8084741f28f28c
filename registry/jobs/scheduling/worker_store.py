"""The workers of the trainer as they report themselves; a worker that stops reporting is forgotten."""

from __future__ import annotations

import builtins
from dataclasses import replace

import sqlalchemy as sa

from registry import tables
from registry.jobs.job_state import JobState
from registry.jobs.scheduling.queue_tables import trainer_workers
from registry.jobs.scheduling.room import Room, TrainerWorker
from registry.liveness.silence import SilenceWatch
from registry.transactions import Transactions, upsert


class WorkerStore:
    """Stores the reports of workers, several at once too."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions
        self._reports = SilenceWatch(transactions.steady)

    def report(self, worker: TrainerWorker) -> None:
        """Store what the worker reports of itself, with the time of now."""
        known = sa.select(trainer_workers.c.started_at).where(trainer_workers.c.name == worker.name)
        with self._tx.write() as tx:
            now = self._tx.now()
            row = {
                "name": worker.name,
                "device": worker.device,
                "total_bytes": worker.total_bytes,
                "free_bytes": worker.free_bytes if worker.free_bytes is not None else free_of(tx, worker),
                "places": worker.places,
                "started_at": tx.execute(known).scalar() or now,
                "reported_at": now,
            }
            upsert(tx, trainer_workers, ("name",), row)

    def leave(self, name: str) -> None:
        """Forget a worker that stops in good order."""
        with self._tx.write() as tx:
            tx.execute(sa.delete(trainer_workers).where(trainer_workers.c.name == name))

    def list(self) -> builtins.list[TrainerWorker]:
        """Return the workers by name."""
        with self._tx.read() as tx:
            return workers_of(tx)

    def expire(self, older_than_s: float) -> builtins.list[str]:
        """Forget the workers that have not reported for *older_than_s*, and return their names.

        The time is measured here, from one call to a later one, so that no clock that jumps removes a worker.
        """
        columns = trainer_workers.c
        with self._tx.read() as tx:
            reports = {row.name: row.reported_at for row in tx.execute(sa.select(columns.name, columns.reported_at))}
        silences = self._reports.look(reports)
        quiet = [name for name, silent_s in silences.items() if silent_s > older_than_s]
        if not quiet:
            return []
        silent = sa.or_(*(sa.and_(columns.name == each, columns.reported_at == reports[each]) for each in quiet))
        with self._tx.write() as tx:
            return sorted(tx.execute(sa.delete(trainer_workers).where(silent).returning(columns.name)).scalars())


def workers_of(tx: sa.Connection) -> builtins.list[TrainerWorker]:
    """Return the workers by name."""
    rows = tx.execute(sa.select(trainer_workers).order_by(trainer_workers.c.name)).mappings()
    return [TrainerWorker(**row) for row in rows]


def free_of(tx: sa.Connection, worker: TrainerWorker) -> int | None:
    """Return what is left of the worker's device beside the needs of the jobs that it holds; None if not measured."""
    if worker.total_bytes is None:
        return None
    jobs = tables.jobs.c
    held = sa.and_(jobs.state == JobState.RUNNING, jobs.worker == worker.name)
    own = sa.func.sum(jobs.needed_bytes - jobs.shared_bytes)
    row = tx.execute(sa.select(own.label("own"), sa.func.max(jobs.shared_bytes).label("shared")).where(held)).one()
    return max(0, worker.total_bytes - int(row.own or 0) - int(row.shared or 0))


def room_of(tx: sa.Connection, name: str, room: Room) -> Room:
    """Return *room* with the memory that the worker reported of its device, where *room* has none."""
    if room.total_bytes is not None:
        return room
    row = tx.execute(sa.select(trainer_workers).where(trainer_workers.c.name == name)).mappings().one_or_none()
    if row is None:
        return room
    worker = TrainerWorker(**row)
    return replace(room, total_bytes=worker.total_bytes, free_bytes=free_of(tx, worker))
