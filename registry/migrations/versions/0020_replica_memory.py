"""A replica reports the memory that its engine takes."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Add the column."""
    op.add_column("replicas", sa.Column("memory_bytes", sa.BigInteger, nullable=True))
