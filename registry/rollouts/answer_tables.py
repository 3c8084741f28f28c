"""The tables of answers: counts of gateways in rollouts, completions that may be rated, and ratings."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from registry.columns import at, cell, metadata, sequence, tenant

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
    # An engine takes a part of the id from the request, so tenants must not get at each other's rows by equal ids.
    tenant(key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("served_name", sa.Text, nullable=False),
    *cell(key=False),
    at("at"),
    sa.Index("ix_completions_at", "at"),
    sa.Index("ix_completions_tenant_at", "tenant", "at"),
)

feedback: Final = sa.Table(
    "feedback",
    metadata,
    sequence(),
    tenant(key=False),
    sa.Column("completion_id", sa.Text, nullable=False),
    sa.Column("adapter", sa.Text, nullable=False, index=True),
    sa.Column("served_name", sa.Text, nullable=False, index=True),
    *cell(key=False),
    sa.Column("score", sa.Double, nullable=False),
    sa.Column("comment", sa.Text, nullable=False),
    # The rated chat as a line of a training file, where the rating came with it.
    sa.Column("chat", sa.JSON(none_as_null=True), nullable=True),
    at("at"),
    sa.UniqueConstraint("tenant", "completion_id"),
    sa.Index("ix_feedback_rollout_id", "rollout_id"),
    sqlite_autoincrement=True,
)
