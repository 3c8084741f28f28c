"""The estimates of jobs, and their measurements."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "job_measurements",
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("estimated_bytes", sa.BigInteger, nullable=False),
        sa.Column("estimated_s", sa.Double, nullable=False),
        sa.Column("host", sa.Text),
        sa.Column("peak_bytes", sa.BigInteger),
        sa.Column("seconds", sa.Double),
        sa.Column("measured_at", sa.Double),
        sa.PrimaryKeyConstraint("job_id", name="pk_job_measurements"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_measurements_job_id"),
    )
    op.create_index("ix_job_measurements_kind", "job_measurements", ["kind", "host", "measured_at"])
