"""Batches of requests, and the results of those that have not ended."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"

_MOVED_AT = (
    "in_progress_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
)


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "batches",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("input_file", sa.Text, nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("metadata", sa.JSON),
        sa.Column("output_expires_after_s", sa.BigInteger),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False, server_default="local"),
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
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        *(sa.Column(name, sa.Double) for name in _MOVED_AT),
        sa.PrimaryKeyConstraint("seq", name="pk_batches"),
        sa.UniqueConstraint("id", name="uq_batches_id"),
        sqlite_autoincrement=True,
    )
    for column in ("state", "input_file", "tenant"):
        op.create_index(f"ix_batches_{column}", "batches", [column])
    op.create_table(
        "batch_results",
        sa.Column("batch_id", sa.Text, nullable=False),
        sa.Column("line", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("is_error", sa.Boolean, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "line", name="pk_batch_results"),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name="fk_batch_results_batch_id"),
    )
