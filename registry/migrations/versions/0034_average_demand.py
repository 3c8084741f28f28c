"""Averages of requests at a time, which are no whole numbers."""

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"


def upgrade() -> None:
    """Let the column take fractions."""
    with op.batch_alter_table("revision_uses") as table:
        table.alter_column("in_flight", type_=sa.Double(), existing_type=sa.Integer(), existing_nullable=False)
