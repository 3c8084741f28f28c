"""Base models may be checkpoints that jobs made, and series of revisions may be reward models.

Everything that an older Lorry stored is an entered folder or a series that answers chats.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add the lineage of base models and the kind of adapters."""
    for name in ("parent", "job_id"):
        op.add_column("bases", sa.Column(name, sa.Text(), nullable=True))
    op.add_column("bases", sa.Column("owner", sa.Text(), nullable=False, server_default=""))
    op.add_column("bases", sa.Column("provenance", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("adapters", sa.Column("kind", sa.Text(), nullable=False, server_default="chat"))
