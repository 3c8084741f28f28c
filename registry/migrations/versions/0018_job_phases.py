"""A running job has the phase that it is in, and since when."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("jobs", sa.Column("phase", sa.Text, nullable=True))
    op.add_column("jobs", sa.Column("phase_since", sa.Double, nullable=True))
