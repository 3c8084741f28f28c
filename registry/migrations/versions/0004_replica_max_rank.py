"""The highest rank that a replica takes."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Replicas say how high a rank they take; 0 where they have not said."""
    op.add_column("replicas", sa.Column("max_rank", sa.Integer, nullable=False, server_default="0"))
