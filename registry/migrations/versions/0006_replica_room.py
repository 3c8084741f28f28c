"""How many requests a replica takes at a time."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Replicas say how many requests each gateway may have there at a time; 0 where they have not said."""
    op.add_column("replicas", sa.Column("room", sa.Integer(), nullable=False, server_default="0"))
