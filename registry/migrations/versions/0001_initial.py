"""The tables of Lorry 0.1."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
OPEN = sa.text("state IN ('pending', 'progressing', 'paused')")


def upgrade() -> None:
    """Make every table."""
    _make_bases()
    _make_adapters()
    _make_revisions()
    _make_rollouts()
    _make_rollout_events()
    _make_jobs()
    _make_job_events()
    _make_job_checkpoints()
    _make_files()
    _make_replicas()
    _make_audit()


def _make_bases() -> None:
    op.create_table(
        "bases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("licence", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_bases"),
    )


def _make_adapters() -> None:
    op.create_table(
        "adapters",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("base", sa.Text(), nullable=False),
        sa.Column("stable", sa.Integer(), nullable=True),
        sa.Column("previous_stable", sa.Integer(), nullable=True),
        sa.Column("stable_since", sa.Double(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["base"], ["bases.name"], name="fk_adapters_base"),
        sa.PrimaryKeyConstraint("name", name="pk_adapters"),
    )


def _make_revisions() -> None:
    op.create_table(
        "revisions",
        sa.Column("adapter", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("artifact", sa.Text(), nullable=False),
        sa.Column("base", sa.Text(), nullable=False),
        sa.Column("base_digest", sa.Text(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("target_modules", sa.JSON(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=True),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("provenance", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["adapter"], ["adapters.name"], name="fk_revisions_adapter"),
        sa.ForeignKeyConstraint(["base"], ["bases.name"], name="fk_revisions_base"),
        sa.PrimaryKeyConstraint("adapter", "number", name="pk_revisions"),
        sa.UniqueConstraint("alias", name="uq_revisions_alias"),
    )
    op.create_index("ix_revisions_artifact", "revisions", ["artifact"])


def _make_rollouts() -> None:
    op.create_table(
        "rollouts",
        sa.Column("seq", SEQUENCE, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("adapter", sa.Text(), nullable=False),
        sa.Column("canary", sa.Integer(), nullable=False),
        sa.Column("stable", sa.Integer(), nullable=True),
        sa.Column("steps", sa.JSON(), nullable=False),
        sa.Column("every_s", sa.Double(), nullable=True),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("step_since", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["adapter", "canary"], ["revisions.adapter", "revisions.number"], name="fk_rollouts_adapter_canary"
        ),
        sa.PrimaryKeyConstraint("seq", name="pk_rollouts"),
        sa.UniqueConstraint("id", name="uq_rollouts_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_rollouts_adapter", "rollouts", ["adapter"])
    op.create_index("uq_rollouts_open", "rollouts", ["adapter"], unique=True, sqlite_where=OPEN, postgresql_where=OPEN)


def _make_rollout_events() -> None:
    op.create_table(
        "rollout_events",
        sa.Column("seq", SEQUENCE, autoincrement=True),
        sa.Column("rollout_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.id"], name="fk_rollout_events_rollout_id"),
        sa.PrimaryKeyConstraint("seq", name="pk_rollout_events"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_rollout_events_rollout_id", "rollout_events", ["rollout_id"])


def _make_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("seq", SEQUENCE, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", sa.Double(), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("pause_requested", sa.Boolean(), nullable=False),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=True),
        sa.Column("fine_tuned_model", sa.Text(), nullable=True),
        sa.Column("trained_tokens", sa.BigInteger(), nullable=True),
        sa.Column("estimated_finish", sa.Double(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name="pk_jobs"),
        sa.UniqueConstraint("id", name="uq_jobs_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_jobs_state", "jobs", ["state"])


def _make_job_events() -> None:
    op.create_table(
        "job_events",
        sa.Column("seq", SEQUENCE, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_events_job_id"),
        sa.PrimaryKeyConstraint("seq", name="pk_job_events"),
        sa.UniqueConstraint("id", name="uq_job_events_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_job_events_job_id", "job_events", ["job_id"])


def _make_job_checkpoints() -> None:
    op.create_table(
        "job_checkpoints",
        sa.Column("seq", SEQUENCE, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("global_step", sa.Integer(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_checkpoints_job_id"),
        sa.PrimaryKeyConstraint("seq", name="pk_job_checkpoints"),
        sa.UniqueConstraint("id", name="uq_job_checkpoints_id"),
        sa.UniqueConstraint("job_id", "global_step", name="uq_job_checkpoints_job_id_global_step"),
        sqlite_autoincrement=True,
    )


def _make_files() -> None:
    op.create_table(
        "files",
        sa.Column("seq", SEQUENCE, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_files"),
        sa.UniqueConstraint("id", name="uq_files_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_files_digest", "files", ["digest"])


def _make_replicas() -> None:
    op.create_table(
        "replicas",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("base", sa.Text(), nullable=False),
        sa.Column("engine", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("capacity", sa.Integer(), nullable=False),
        sa.Column("slots", sa.JSON(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("heartbeat_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_replicas"),
    )


def _make_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", SEQUENCE, autoincrement=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        sqlite_autoincrement=True,
    )
