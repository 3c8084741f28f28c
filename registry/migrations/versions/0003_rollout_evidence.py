"""Plans with guardrails, the evidence of every verdict, and what became of the webhooks."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add them; rollouts that are there already go on unjudged."""
    op.add_column("rollouts", sa.Column("guardrails", sa.JSON()))
    op.add_column("rollouts", sa.Column("shadow_judge", sa.Text()))
    op.add_column("rollouts", sa.Column("evidence", sa.JSON()))
    op.add_column("rollouts", sa.Column("judged_at", sa.Double()))
    op.add_column("rollout_events", sa.Column("evidence", sa.JSON()))
    op.create_index("ix_rollout_events_at", "rollout_events", ["at"])
    op.create_table(
        "rollout_deliveries",
        sa.Column("event_seq", SEQUENCE, nullable=False, autoincrement=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.Double(), nullable=False),
        sa.Column("delivered_at", sa.Double()),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("event_seq", name="pk_rollout_deliveries"),
        sa.ForeignKeyConstraint(["event_seq"], ["rollout_events.seq"], name="fk_rollout_deliveries_event_seq"),
    )
