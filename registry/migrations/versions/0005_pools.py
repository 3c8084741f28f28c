"""Pools and loads of replicas, engines entered by hand, and what gateways say of the use of revisions."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add two columns and two tables."""
    op.add_column("replicas", sa.Column("pool", sa.Text(), nullable=False, server_default=""))
    op.add_column("replicas", sa.Column("load", sa.Integer(), nullable=False, server_default="0"))
    op.create_table(
        "entered_engines",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("engine", sa.Text(), nullable=False),
        sa.Column("base", sa.Text(), nullable=False),
        sa.Column("capacity", sa.Integer(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["base"], ["bases.name"], name="fk_entered_engines_base"),
        sa.PrimaryKeyConstraint("id", name="pk_entered_engines"),
        sa.UniqueConstraint("url", name="uq_entered_engines_url"),
    )
    op.create_table(
        "revision_uses",
        sa.Column("served_name", sa.Text(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("used_at", sa.Double(), nullable=False),
        sa.Column("in_flight", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("served_name", "gateway", name="pk_revision_uses"),
    )
