"""The tables of answers in rollouts: counts of gateways, completions that may be rated, and ratings."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from registry.columns import at, cell, metadata, sequence

observations: Final = sa.Table(
    "observations",
    metadata,
    sa.Column("gateway_id", sa.Text, primary_key=True),
    *cell(key=True),
    sa.Column("tally", sa.JSON, nullable=False),
    at("at"),
    sa.Index("ix_observations_rollout_id", "rollout_id"),
)

completions: Final = sa.Table(
    "completions",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("served_name", sa.Text, nullable=False),
    *cell(key=False),
    at("at"),
    sa.Index("ix_completions_at", "at"),
)

feedback: Final = sa.Table(
    "feedback",
    metadata,
    sequence(),
    sa.Column("completion_id", sa.Text, nullable=False, unique=True),
    sa.Column("adapter", sa.Text, nullable=False, index=True),
    sa.Column("served_name", sa.Text, nullable=False),
    *cell(key=False),
    sa.Column("score", sa.Double, nullable=False),
    sa.Column("comment", sa.Text, nullable=False),
    at("at"),
    sa.Index("ix_feedback_rollout_id", "rollout_id"),
    sqlite_autoincrement=True,
)
