"""The tables as `migrations/` creates them; other rooms have their own: `answer_tables.py`, `upload_tables.py`."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from registry.columns import at, metadata, sequence, tenant

OPEN_ROLLOUT: Final = "state IN ('pending', 'progressing', 'paused')"
"""The condition of an open rollout, as written in the unique index."""

VALID_KEY: Final = "revoked_at IS NULL"
"""The condition of a valid key, as written in the unique index."""

bases: Final = sa.Table(
    "bases",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("licence", sa.Text, nullable=False),
    at("created_at"),
    sa.Column("parent", sa.Text),
    sa.Column("job_id", sa.Text),
    sa.Column("owner", sa.Text, nullable=False, server_default=""),
    sa.Column("provenance", sa.JSON, nullable=False, server_default="{}"),
    sa.Column("step", sa.Integer),
    sa.Column("alias", sa.Text),
    at("expires_at", nullable=True),
)

adapters: Final = sa.Table(
    "adapters",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("base", sa.Text, sa.ForeignKey("bases.name"), nullable=False),
    sa.Column("stable", sa.Integer),
    sa.Column("previous_stable", sa.Integer),
    at("stable_since", nullable=True),
    at("created_at"),
    sa.Column("kind", sa.Text, nullable=False, server_default="chat"),
    sa.Index("ix_adapters_base", "base"),
)

adapter_owners: Final = sa.Table(
    "adapter_owners",
    metadata,
    sa.Column("adapter", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("is_shared", sa.Boolean, nullable=False),
    at("claimed_at"),
)
"""Names of adapters that are claimed; a name is claimed before its adapter exists."""

revisions: Final = sa.Table(
    "revisions",
    metadata,
    sa.Column("adapter", sa.Text, sa.ForeignKey("adapters.name"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("artifact", sa.Text, nullable=False),
    sa.Column("base", sa.Text, sa.ForeignKey("bases.name"), nullable=False),
    sa.Column("base_digest", sa.Text, nullable=False),
    sa.Column("rank", sa.Integer, nullable=False),
    sa.Column("target_modules", sa.JSON, nullable=False),
    sa.Column("alias", sa.Text, unique=True),
    sa.Column("job_id", sa.Text),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("provenance", sa.JSON, nullable=False),
    at("created_at"),
    sa.Index("ix_revisions_artifact", "artifact"),
    sa.Index("ix_revisions_base", "base"),
)

rollouts: Final = sa.Table(
    "rollouts",
    metadata,
    sequence(),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("adapter", sa.Text, nullable=False),
    sa.Column("canary", sa.Integer, nullable=False),
    sa.Column("stable", sa.Integer),
    sa.Column("steps", sa.JSON, nullable=False),
    sa.Column("every_s", sa.Double),
    sa.Column("guardrails", sa.JSON(none_as_null=True)),
    sa.Column("shadow_judge", sa.Text),
    sa.Column("gate", sa.JSON(none_as_null=True)),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    at("created_at"),
    at("step_since"),
    at("finished_at", nullable=True),
    sa.Column("evidence", sa.JSON(none_as_null=True)),
    at("judged_at", nullable=True),
    sa.Column("gate_result", sa.JSON(none_as_null=True)),
    sa.ForeignKeyConstraint(["adapter", "canary"], ["revisions.adapter", "revisions.number"]),
    sa.Index(
        "uq_rollouts_open",
        "adapter",
        unique=True,
        sqlite_where=sa.text(OPEN_ROLLOUT),
        postgresql_where=sa.text(OPEN_ROLLOUT),
    ),
    sa.Index("ix_rollouts_adapter", "adapter"),
    sqlite_autoincrement=True,
)

rollout_events: Final = sa.Table(
    "rollout_events",
    metadata,
    sequence(),
    sa.Column("rollout_id", sa.Text, sa.ForeignKey("rollouts.id"), nullable=False, index=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    at("at"),
    sa.Column("evidence", sa.JSON(none_as_null=True)),
    sa.Index("ix_rollout_events_at", "at"),
    sqlite_autoincrement=True,
)

jobs: Final = sa.Table(
    "jobs",
    metadata,
    sequence(),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("worker", sa.Text),
    at("lease_expires_at", nullable=True),
    sa.Column("lease_s", sa.Double),
    sa.Column("cancel_requested", sa.Boolean, nullable=False),
    sa.Column("pause_requested", sa.Boolean, nullable=False),
    sa.Column("error", sa.JSON(none_as_null=True)),
    sa.Column("revision", sa.Integer),
    sa.Column("fine_tuned_model", sa.Text),
    sa.Column("trained_tokens", sa.BigInteger),
    sa.Column("result_file", sa.Text),
    at("estimated_finish", nullable=True),
    sa.Column("phase", sa.Text),
    at("phase_since", nullable=True),
    sa.Column("priority", sa.Integer, nullable=False, server_default="1"),
    tenant(),
    at("created_at"),
    at("started_at", nullable=True),
    sa.Column("finished_at", sa.Double, index=True),
    sa.Column("base_digest", sa.Text, nullable=False, server_default=""),
    sa.Column("is_light", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("needed_bytes", sa.BigInteger),
    sa.Column("shared_bytes", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("expected_s", sa.Double),
    sa.Column("queued_at", sa.Double, nullable=False, server_default="0"),
    sa.Column("not_before", sa.Double, nullable=False, server_default="0"),
    at("claimed_at", nullable=True),
    sa.Column("losses", sa.Integer, nullable=False, server_default="0"),
    sa.Column("gives_way_to", sa.Text),
    sa.Column("gave_way", sa.Integer, nullable=False, server_default="0"),
    sa.Column("unfit_rows", sa.JSON(none_as_null=True)),
    sa.Index("ix_jobs_tenant", "tenant"),
    # Every column that the choice of the next job looks at, so that it reads no row of a job.
    sa.Index(
        "ix_jobs_queue",
        *("state", "priority", "tenant", "seq", "id"),
        *("base_digest", "is_light", "needed_bytes", "shared_bytes", "not_before", "queued_at"),
    ),
    sqlite_autoincrement=True,
)

job_events: Final = sa.Table(
    "job_events",
    metadata,
    sequence(),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.id"), nullable=False, index=True),
    sa.Column("level", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("data", sa.JSON, nullable=False),
    at("at"),
    sqlite_autoincrement=True,
)

job_checkpoints: Final = sa.Table(
    "job_checkpoints",
    metadata,
    sequence(),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.id"), nullable=False),
    sa.Column("global_step", sa.Integer, nullable=False),
    sa.Column("metrics", sa.JSON, nullable=False),
    at("at"),
    sa.UniqueConstraint("job_id", "global_step"),
    sqlite_autoincrement=True,
)

files: Final = sa.Table(
    "files",
    metadata,
    sequence(),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("filename", sa.Text, nullable=False),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.Text, nullable=False, index=True),
    sa.Column("owner", sa.Text, nullable=False),
    tenant(),
    at("created_at"),
    sa.Column("expires_at", sa.Double, index=True),
    sa.Column("report_state", sa.Text, index=True),
    sa.Column("report_message", sa.Text),
    sa.Column("report_attempt", sa.Integer, nullable=False, server_default="0"),
    sa.Column("report_beat", sa.BigInteger, nullable=False, server_default="0"),
    sa.Index("ix_files_tenant", "tenant"),
    sqlite_autoincrement=True,
)

audit: Final = sa.Table(
    "audit",
    metadata,
    sequence("id"),
    at("at"),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("detail", sa.JSON, nullable=False),
    sqlite_autoincrement=True,
)

forced_sides: Final = sa.Table(
    "forced_sides",
    metadata,
    sa.Column("adapter", sa.Text, sa.ForeignKey("adapters.name"), primary_key=True),
    sa.Column("sticky_key", sa.Text, primary_key=True),
    sa.Column("side", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    at("created_at"),
)

table_changes: Final = sa.Table(
    "table_changes",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
)

keys: Final = sa.Table(
    "keys",
    metadata,
    sequence(),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("hash", sa.Text, nullable=False, unique=True),
    sa.Column("hint", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("tenant", sa.Text, nullable=False, server_default=""),
    sa.Column("scopes", sa.JSON, nullable=False),
    sa.Column("models", sa.JSON(none_as_null=True)),
    sa.Column("requests_per_minute", sa.BigInteger),
    sa.Column("tokens_per_minute", sa.BigInteger),
    sa.Column("concurrent_requests", sa.BigInteger),
    sa.Column("priority", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    at("created_at"),
    at("revoked_at", nullable=True),
    at("last_used_at", nullable=True),
    sa.Index(
        "uq_keys_name",
        "name",
        unique=True,
        sqlite_where=sa.text(VALID_KEY),
        postgresql_where=sa.text(VALID_KEY),
    ),
    sqlite_autoincrement=True,
)
"""API keys. Rows are never deleted, and only the last two columns change, so that revoking cannot reopen Lorry."""
