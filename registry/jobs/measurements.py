"""Estimated and measured memory and time of jobs: the ground for correcting the next estimates."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from registry.columns import at, metadata
from registry.contracts.job_spec import JobSpec
from registry.transactions import Transactions, upsert

LATEST: Final = 50
"""Measured jobs of a kind that are read, the latest ones."""

job_measurements: Final = sa.Table(
    "job_measurements",
    metadata,
    sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.id"), primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("estimated_bytes", sa.BigInteger, nullable=False),
    sa.Column("estimated_s", sa.Double, nullable=False),
    sa.Column("host", sa.Text),
    sa.Column("peak_bytes", sa.BigInteger),
    sa.Column("seconds", sa.Double),
    at("measured_at", nullable=True),
    sa.Index("ix_job_measurements_kind", "kind", "host", "measured_at"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredJob:
    """Memory and time that a finished job took, beside what was estimated for it without a correction."""

    estimated_bytes: int
    peak_bytes: int
    estimated_s: float
    seconds: float
    """From the start of its only attempt to the end of training and writing."""


class JobMeasurements:
    """The estimates of jobs, and what their processes measured."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions

    def add_estimate(self, job_id: str, spec: JobSpec, estimated_bytes: int, estimated_s: float) -> None:
        """Store what the job was estimated to take, without corrections."""
        row = {
            "job_id": job_id,
            "kind": spec.memory_kind(),
            "estimated_bytes": estimated_bytes,
            "estimated_s": estimated_s,
        }
        with self._tx.write() as tx:
            upsert(tx, job_measurements, ("job_id",), row, is_counted=False)

    def add_measured(self, job_id: str, host: str, peak_bytes: int, seconds: float) -> None:
        """Store what the job took on *host*; a job without an estimate corrects nothing and is left out."""
        values = {"host": host, "peak_bytes": peak_bytes, "seconds": seconds, "measured_at": self._tx.now()}
        with self._tx.write() as tx:
            tx.execute(sa.update(job_measurements).where(job_measurements.c.job_id == job_id).values(values))

    def like(self, spec: JobSpec, host: str) -> builtins.list[MeasuredJob]:
        """Return what jobs of the same kind took on *host*, the latest first."""
        row = job_measurements.c
        query = (
            sa.select(row.estimated_bytes, row.peak_bytes, row.estimated_s, row.seconds)
            .where(row.kind == spec.memory_kind(), row.host == host)
            .order_by(row.measured_at.desc())
            .limit(LATEST)
        )
        with self._tx.read() as tx:
            return [MeasuredJob(**found) for found in tx.execute(query).mappings()]
