"""The tables of evaluations as `migrations/` creates them."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from registry.columns import at, metadata, sequence, tenant

evaluation_suites: Final = sa.Table(
    "evaluation_suites",
    metadata,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    tenant(key=True),
    at("created_at"),
)
"""Suites as canonical JSON, each once for every tenant that asked it."""

evaluations: Final = sa.Table(
    "evaluations",
    metadata,
    sequence(),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("state", sa.Text, nullable=False, index=True),
    sa.Column("tool", sa.Text, nullable=False),
    sa.Column("asked_name", sa.Text, nullable=False),
    sa.Column("served_name", sa.Text, nullable=False, index=True),
    sa.Column("model", sa.JSON, nullable=False),
    sa.Column("judges", sa.JSON, nullable=False),
    sa.Column("suite_name", sa.Text, nullable=False),
    sa.Column("suite_digest", sa.Text, nullable=False),
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("done", sa.Integer, nullable=False),
    sa.Column("scores", sa.JSON(none_as_null=True)),
    sa.Column("error", sa.JSON(none_as_null=True)),
    sa.Column("detail", sa.JSON, nullable=False),
    sa.Column("concurrency", sa.Integer, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    tenant(),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("rollout_id", sa.Text),
    sa.Column("side", sa.Text),
    sa.Column("holder", sa.Text),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("beat", sa.BigInteger, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("timeout_s", sa.Double, nullable=False),
    at("created_at"),
    at("started_at", nullable=True),
    at("finished_at", nullable=True),
    at("expires_at"),
    # A rollout has one evaluation of each side, however many controllers ask for it.
    sa.UniqueConstraint("rollout_id", "side"),
    sa.Index("ix_evaluations_tenant", "tenant"),
    sqlite_autoincrement=True,
)

evaluation_answers: Final = sa.Table(
    "evaluation_answers",
    metadata,
    sa.Column("evaluation_id", sa.Text, sa.ForeignKey("evaluations.id"), primary_key=True),
    sa.Column("row", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("row_id", sa.Text, nullable=False),
    sa.Column("answer", sa.Text, nullable=False),
    sa.Column("score", sa.Double, nullable=False),
    sa.Column("has_passed", sa.Boolean, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("weight", sa.Double, nullable=False),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("prompt", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("finish_reason", sa.Text, nullable=False),
    sa.Column("prompt_tokens", sa.Integer, nullable=False),
    sa.Column("completion_tokens", sa.Integer, nullable=False),
    sa.Column("seconds", sa.Double, nullable=False),
)
