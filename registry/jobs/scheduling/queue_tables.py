"""The tables of the queue beside `jobs`, as `migrations/` creates them."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from registry.columns import at, metadata

job_dependencies: Final = sa.Table(
    "job_dependencies",
    metadata,
    sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.id"), primary_key=True),
    sa.Column("after", sa.Text, sa.ForeignKey("jobs.id"), primary_key=True),
    sa.Index("ix_job_dependencies_after", "after"),
)
"""A job, and each job that must have succeeded before it begins."""

trainer_uses: Final = sa.Table(
    "trainer_uses",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("used_s", sa.Double, nullable=False),
)
"""Seconds that the attempts of a tenant's jobs took, by the day (since 1970, UTC) in which they ended."""

trainer_workers: Final = sa.Table(
    "trainer_workers",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("device", sa.Text, nullable=False),
    sa.Column("total_bytes", sa.BigInteger),
    sa.Column("free_bytes", sa.BigInteger),
    sa.Column("places", sa.Integer, nullable=False),
    at("started_at"),
    at("reported_at"),
)
"""Workers of the trainer as they last reported themselves."""
