"""A rating may bring the chat that was rated, so that preferences are learnt from it."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Add the column."""
    op.add_column("feedback", sa.Column("chat", sa.JSON(none_as_null=True), nullable=True))
