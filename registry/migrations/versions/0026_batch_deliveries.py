"""The end of a batch is a webhook."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    """Create the table of attempts."""
    op.create_table(
        "batch_deliveries",
        sa.Column("event_seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), autoincrement=False, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_at", sa.Double, nullable=False),
        sa.Column("delivered_at", sa.Double, nullable=True),
        sa.Column("error", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(["event_seq"], ["batches.seq"], name="fk_batch_deliveries_event_seq"),
        sa.PrimaryKeyConstraint("event_seq", name="pk_batch_deliveries"),
    )
