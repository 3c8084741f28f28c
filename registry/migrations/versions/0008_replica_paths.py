"""Which paths of inference requests a replica answers; until one says so, those of completions."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the column."""
    completions = '["/v1/chat/completions", "/v1/completions"]'
    op.add_column("replicas", sa.Column("paths", sa.JSON(), nullable=False, server_default=completions))
