"""What of a light job's memory is also that of the light jobs beside it."""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"


def upgrade() -> None:
    """Add the column, also to the index of the queue."""
    op.add_column("jobs", sa.Column("shared_bytes", sa.BigInteger, nullable=False, server_default="0"))
    op.drop_index("ix_jobs_queue", "jobs")
    waiting = ["state", "priority", "tenant", "seq", "id", "base_digest", "is_light", "needed_bytes", "shared_bytes"]
    op.create_index("ix_jobs_queue", "jobs", [*waiting, "not_before", "queued_at"])
