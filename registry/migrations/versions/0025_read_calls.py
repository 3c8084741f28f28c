"""A replica reports whether its engine reads the tool calls of its model."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    """Add the column."""
    op.add_column("replicas", sa.Column("reads_calls", sa.Boolean, nullable=False, server_default=sa.true()))
