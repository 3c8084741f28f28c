"""How many requests a replica takes at a time; how often what routes follow from has changed."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Replicas say how many requests each gateway may have there at a time; 0 where they have not said."""
    op.add_column("replicas", sa.Column("room", sa.Integer(), nullable=False, server_default="0"))
    op.create_table(
        "table_changes",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_table_changes"),
    )
