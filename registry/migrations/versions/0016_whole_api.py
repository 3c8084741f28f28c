"""Files expire, uploads come in parts, checkpoints are shared, and the ends of jobs are delivered to a webhook."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"

SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the column, its indexes and the tables."""
    op.add_column("files", sa.Column("expires_at", sa.Double(), nullable=True))
    op.create_index("ix_files_expires_at", "files", ["expires_at"])
    op.create_index("ix_jobs_finished_at", "jobs", ["finished_at"])
    _make_uploads()
    _make_upload_parts()
    _make_checkpoint_permissions()
    _make_job_deliveries()


def _make_uploads() -> None:
    op.create_table(
        "uploads",
        sa.Column("seq", SEQUENCE, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("mime_type", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("file_expires_after_s", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("file_id", sa.Text(), nullable=True),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), server_default="local", nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_uploads"),
        sa.UniqueConstraint("id", name="uq_uploads_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_uploads_state", "uploads", ["state"])


def _make_upload_parts() -> None:
    op.create_table(
        "upload_parts",
        sa.Column("seq", SEQUENCE, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("upload_id", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["upload_id"], ["uploads.id"], name="fk_upload_parts_upload_id"),
        sa.PrimaryKeyConstraint("seq", name="pk_upload_parts"),
        sa.UniqueConstraint("id", name="uq_upload_parts_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_upload_parts_upload_id", "upload_parts", ["upload_id"])
    op.create_index("ix_upload_parts_digest", "upload_parts", ["digest"])


def _make_checkpoint_permissions() -> None:
    op.create_table(
        "checkpoint_permissions",
        sa.Column("seq", SEQUENCE, autoincrement=True),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("served_name", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_checkpoint_permissions"),
        sa.UniqueConstraint("id", name="uq_checkpoint_permissions_id"),
        sa.UniqueConstraint("served_name", "project", name="uq_checkpoint_permissions_served_name_project"),
        sqlite_autoincrement=True,
    )


def _make_job_deliveries() -> None:
    op.create_table(
        "job_deliveries",
        sa.Column("event_seq", SEQUENCE, autoincrement=False, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.Double(), nullable=False),
        sa.Column("delivered_at", sa.Double(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["event_seq"], ["jobs.seq"], name="fk_job_deliveries_event_seq"),
        sa.PrimaryKeyConstraint("event_seq", name="pk_job_deliveries"),
    )
