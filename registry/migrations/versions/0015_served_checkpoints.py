"""Checkpoints of jobs are served beside the result, jobs wait by their priority, and revisions may be waited for."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Add the table and the columns."""
    op.create_table(
        "served_checkpoints",
        sa.Column("adapter", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("step", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("artifact", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("is_result", sa.Boolean(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("discarded_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("adapter", "number", "step", name="pk_served_checkpoints"),
        sa.UniqueConstraint("alias", name="uq_served_checkpoints_alias"),
        sa.ForeignKeyConstraint(
            ["adapter", "number"],
            ["revisions.adapter", "revisions.number"],
            name="fk_served_checkpoints_adapter_number",
        ),
    )
    op.create_index("ix_served_checkpoints_artifact", "served_checkpoints", ["artifact"])
    op.add_column("jobs", sa.Column("priority", sa.Integer(), nullable=False, server_default="1"))
    for name in ("awaited_since", "awaited_until"):
        op.add_column("revision_uses", sa.Column(name, sa.Double(), nullable=True))
