"""Measure what a long queue of jobs costs workers, the controller's tick, and whoever looks at a job.

    python bench/scheduling/queued_jobs.py [--jobs 10000] [--rounds 20] [--postgres]

Each state of the queue is made anew. A claim is that of a job that begins; an idle claim finds none that may. Medians
in milliseconds of wall time, with the processor time of this process beside it. `--postgres` measures PostgreSQL too,
with a server of its own from the system's programs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[2]))

from gateway.rollouts.controller import reconcile
from gateway.settings import GatewaySettings
from registry import tables
from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.database import Registry, open_registry
from registry.jobs.scheduling.queue_tables import job_dependencies
from registry.jobs.scheduling.room import Room, TrainerWorker
from registry.jobs.scheduling.turns import QueueTurns
from registry.publishing.unused_folders import discard_checkpoints
from registry.schema import migrate
from registry.settings import RegistrySettings

GB: Final = 10**9
SPEC: Final = SupervisedSpec(
    base="tiny",
    base_digest="0" * 64,
    adapter="support",
    training_file="file-1",
    n_epochs=1,
    batch_size=4,
    learning_rate=1e-4,
    seed=7,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueState:
    """A queue to measure."""

    name: str
    owners: int = 1
    waits: bool = False
    """Whether each job waits for a job that has not ended."""
    needed_bytes: int | None = None


STATES: Final = (
    QueueState(name="one owner"),
    QueueState(name="100 owners, with estimates", owners=100, needed_bytes=2 * GB),
    QueueState(name="each waits for another job", waits=True),
    QueueState(name="none fits beside the running job", needed_bytes=7 * GB),
)


def fill(registry: Registry, count: int, state: QueueState) -> None:
    """Queue *count* jobs like *state*, and let another job run."""
    first = registry.jobs.create(SPEC, "ann")
    lease = registry.jobs.claim("other", 3600.0)
    assert lease is not None
    with registry.transactions.write() as tx:
        row = dict(tx.execute(sa.select(tables.jobs).where(tables.jobs.c.id == first.id)).mappings().one())
        unleased = {"state": "queued", "worker": None, "lease_expires_at": None, "claimed_at": None, "attempt": 0}
        rows = [
            {name: value for name, value in row.items() if name != "seq"}
            | unleased
            | {
                "id": f"ftjob-{number:024}",
                "tenant": f"tenant-{number % state.owners}",
                "needed_bytes": state.needed_bytes,
                "expected_s": 300.0,
            }
            for number in range(count)
        ]
        for start in range(0, count, 1000):
            tx.execute(sa.insert(tables.jobs), rows[start : start + 1000])
        if state.waits:
            edges = [{"job_id": each["id"], "after": first.id} for each in rows]
            tx.execute(sa.insert(job_dependencies), edges)
        if tx.dialect.name == "postgresql":
            tx.exec_driver_sql("ANALYZE")


def timed(act: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Return the median wall time and the median processor time of a call, in milliseconds."""
    walls, cpus = [], []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        act()
        walls.append(1e3 * (time.perf_counter() - wall))
        cpus.append(1e3 * (time.process_time() - cpu))
    return statistics.median(walls), statistics.median(cpus)


def measure(registry: Registry, rounds: int) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yield what is measured, with its times."""
    knobs, now = GatewaySettings(), time.time
    registry.workers.report(TrainerWorker(name="other", device="cpu", total_bytes=8 * GB))
    room = Room(total_bytes=8 * GB, free_bytes=6 * GB)
    yield "controller's tick", timed(lambda: reconcile(registry, knobs, now()), rounds)
    yield "turns of all", timed(lambda: QueueTurns(registry.transactions).read(), max(3, rounds // 4))
    yield "worker's look for old checkpoints", timed(lambda: discard_checkpoints(registry), max(3, rounds // 4))
    yield "idle claim", timed(lambda: registry.jobs.claim("w", 30.0, Room(beside="none")), rounds)
    yield "claim", timed(lambda: registry.jobs.claim("w", 3600.0, room), rounds)


@contextmanager
def opened(url: str, folder: Path) -> Iterator[Registry]:
    """Open a new registry at *url*."""
    migrate(url)
    registry = open_registry(RegistrySettings(url=url, artifacts=folder / "artifacts"))
    try:
        yield registry
    finally:
        registry.close()


def report(kind: str, jobs: int, state: QueueState, registry: Registry, rounds: int) -> None:
    """Fill the queue, measure, and print a row for each figure."""
    fill(registry, jobs, state)
    for what, (wall, cpu) in measure(registry, rounds):
        print(f"| {kind} | {jobs:,} | {state.name} | {what} | {wall:.1f} | {cpu:.1f} |", flush=True)


def measure_sqlite(jobs: int, rounds: int) -> None:
    """Measure each state of the queue, and an empty one, on SQLite."""
    for count, state in ((0, STATES[0]), *((jobs, each) for each in STATES)):
        with tempfile.TemporaryDirectory() as scratch:
            url = f"sqlite:///{scratch}/registry.db"
            with opened(url, Path(scratch)) as registry:
                report("SQLite", count, state, registry, rounds)


def measure_postgres(jobs: int, rounds: int) -> None:
    """Measure each state of the queue, and an empty one, on PostgreSQL."""
    from tests.postgres_server import postgres_server

    with postgres_server() as server, tempfile.TemporaryDirectory() as scratch:
        admin = sa.create_engine(server.url, isolation_level="AUTOCOMMIT")
        for number, (count, state) in enumerate(((0, STATES[0]), *((jobs, each) for each in STATES))):
            with admin.connect() as connection:
                connection.exec_driver_sql(f"CREATE DATABASE bench_{number}")
            url: Any = server.url.set(database=f"bench_{number}")
            with opened(url.render_as_string(hide_password=False), Path(scratch)) as registry:
                report("PostgreSQL", count, state, registry, rounds)
        admin.dispose()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--postgres", action="store_true")
    options = parser.parse_args()
    print("| database | queued jobs | state | what | ms | CPU ms here |\n|---|---|---|---|---|---|")
    measure_sqlite(options.jobs, options.rounds)
    if options.postgres:
        measure_postgres(options.jobs, options.rounds)


if __name__ == "__main__":
    main()
