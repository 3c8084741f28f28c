"""The tables of batches as `migrations/` creates them."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from registry.columns import at, metadata, sequence, tenant

batches: Final = sa.Table(
    "batches",
    metadata,
    sequence(),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("state", sa.Text, nullable=False, index=True),
    sa.Column("endpoint", sa.Text, nullable=False),
    sa.Column("input_file", sa.Text, nullable=False, index=True),
    sa.Column("model", sa.Text),
    sa.Column("metadata", sa.JSON(none_as_null=True)),
    sa.Column("output_expires_after_s", sa.BigInteger),
    sa.Column("owner", sa.Text, nullable=False),
    tenant(),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text),
    sa.Column("errors", sa.JSON, nullable=False),
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("completed", sa.Integer, nullable=False),
    sa.Column("failed", sa.Integer, nullable=False),
    sa.Column("usage", sa.JSON, nullable=False),
    sa.Column("output_file", sa.Text),
    sa.Column("error_file", sa.Text),
    sa.Column("holder", sa.Text),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("beat", sa.BigInteger, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    at("created_at"),
    at("expires_at"),
    at("in_progress_at", nullable=True),
    at("finalizing_at", nullable=True),
    at("completed_at", nullable=True),
    at("failed_at", nullable=True),
    at("expired_at", nullable=True),
    at("cancelling_at", nullable=True),
    at("cancelled_at", nullable=True),
    sa.Index("ix_batches_tenant", "tenant"),
    sqlite_autoincrement=True,
)

batch_results: Final = sa.Table(
    "batch_results",
    metadata,
    sa.Column("batch_id", sa.Text, sa.ForeignKey("batches.id"), primary_key=True),
    sa.Column("line", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("is_error", sa.Boolean, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
)
"""Results of batches that have not ended; with its end a batch's results are in its files."""
