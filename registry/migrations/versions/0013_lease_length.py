"""A lease names its length, so that its end can be measured by a clock that does not jump."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add the column; a job that runs during the change gets the default length of a lease."""
    op.add_column("jobs", sa.Column("lease_s", sa.Double(), nullable=True))
    op.execute("UPDATE jobs SET lease_s = 30.0 WHERE lease_expires_at IS NOT NULL")
