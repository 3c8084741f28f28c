"""Pools that may have no replica."""

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "sleeping_pools",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("base", sa.Text, nullable=False),
        sa.Column("adapters_of", sa.Text, nullable=False, server_default=""),
        sa.Column("engine", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(["base"], ["bases.name"], name="fk_sleeping_pools_base"),
        sa.PrimaryKeyConstraint("name", name="pk_sleeping_pools"),
    )
