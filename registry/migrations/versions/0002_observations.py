"""Tables for the counts of rollouts, which answers may be rated, the ratings, and conversations held on a side."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    _make_observations()
    _make_completions()
    _make_feedback()
    _make_forced_sides()


def _make_observations() -> None:
    op.create_table(
        "observations",
        sa.Column("gateway_id", sa.Text(), nullable=False),
        sa.Column("rollout_id", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("replica", sa.Text(), nullable=False),
        sa.Column("tally", sa.JSON(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("gateway_id", "rollout_id", "step", "side", "replica", name="pk_observations"),
    )
    op.create_index("ix_observations_rollout_id", "observations", ["rollout_id"])


def _make_completions() -> None:
    op.create_table(
        "completions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("served_name", sa.Text(), nullable=False),
        sa.Column("rollout_id", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("replica", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_completions"),
    )
    op.create_index("ix_completions_at", "completions", ["at"])


def _make_feedback() -> None:
    op.create_table(
        "feedback",
        sa.Column("seq", SEQUENCE, autoincrement=True),
        sa.Column("completion_id", sa.Text(), nullable=False),
        sa.Column("adapter", sa.Text(), nullable=False),
        sa.Column("served_name", sa.Text(), nullable=False),
        sa.Column("rollout_id", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("replica", sa.Text(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_feedback"),
        sa.UniqueConstraint("completion_id", name="uq_feedback_completion_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_feedback_rollout_id", "feedback", ["rollout_id"])
    op.create_index("ix_feedback_adapter", "feedback", ["adapter"])


def _make_forced_sides() -> None:
    op.create_table(
        "forced_sides",
        sa.Column("adapter", sa.Text(), nullable=False),
        sa.Column("sticky_key", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["adapter"], ["adapters.name"], name="fk_forced_sides_adapter"),
        sa.PrimaryKeyConstraint("adapter", "sticky_key", name="pk_forced_sides"),
    )
