"""The base model whose adapters a replica takes on weights that were quantized from it."""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    """Add the column."""
    op.add_column("replicas", sa.Column("adapters_of", sa.Text, nullable=False, server_default=""))
