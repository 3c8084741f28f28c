"""The rows of a job's files that do not fit."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    """Add the column."""
    op.add_column("jobs", sa.Column("unfit_rows", sa.JSON()))
