"""Tables of replicas, entered engines and the demand for revisions."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from registry.columns import at, metadata

replicas: Final = sa.Table(
    "replicas",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("base", sa.Text, nullable=False),
    sa.Column("engine", sa.Text, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("capacity", sa.Integer, nullable=False),
    sa.Column("max_rank", sa.Integer, nullable=False, server_default="0"),
    sa.Column("slots", sa.JSON, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    at("started_at"),
    at("heartbeat_at"),
    sa.Column("pool", sa.Text, nullable=False, server_default=""),
    sa.Column("load", sa.Integer, nullable=False, server_default="0"),
    sa.Column("room", sa.Integer, nullable=False, server_default="0"),
    sa.Column("paths", sa.JSON, nullable=False, server_default='["/v1/chat/completions", "/v1/completions"]'),
    sa.Column("memory_bytes", sa.BigInteger),
    sa.Column("reads_calls", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("adapters_of", sa.Text, nullable=False, server_default=""),
    sa.Column("mark", sa.BigInteger, nullable=False, server_default="0"),
)

entered_engines: Final = sa.Table(
    "entered_engines",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("url", sa.Text, nullable=False, unique=True),
    sa.Column("engine", sa.Text, nullable=False),
    sa.Column("base", sa.Text, sa.ForeignKey("bases.name"), nullable=False),
    sa.Column("capacity", sa.Integer, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    at("created_at"),
)

revision_uses: Final = sa.Table(
    "revision_uses",
    metadata,
    sa.Column("served_name", sa.Text, primary_key=True),
    sa.Column("gateway", sa.Text, primary_key=True),
    at("used_at"),
    sa.Column("in_flight", sa.Double, nullable=False),
    at("awaited_since", nullable=True),
    at("awaited_until", nullable=True),
    sa.Index("ix_revision_uses_used_at", "used_at"),
)
