"""A mark by which readers see that a replica's row has changed, and indexes for the rows of one base model."""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"


def upgrade() -> None:
    """Add the column and the indexes."""
    op.add_column("replicas", sa.Column("mark", sa.BigInteger, nullable=False, server_default="0"))
    op.create_index("ix_adapters_base", "adapters", ["base"])
    op.create_index("ix_revisions_base", "revisions", ["base"])
    op.create_index("ix_revision_uses_used_at", "revision_uses", ["used_at"])
