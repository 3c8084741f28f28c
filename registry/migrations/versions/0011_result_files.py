"""Jobs name the file with their figures; jobs that ended before have none."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the column."""
    op.add_column("jobs", sa.Column("result_file", sa.Text(), nullable=True))
