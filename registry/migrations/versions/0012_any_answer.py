"""Every answer may be rated, by its tenant alone: ids of answers are unique for a tenant, and rollouts are optional.

Answers and ratings of an older Lorry belong to the tenant `local`.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

ROLLOUT: tuple[tuple[str, sa.Text | sa.Integer], ...] = (
    ("rollout_id", sa.Text()),
    ("step", sa.Integer()),
    ("side", sa.Text()),
)


def tenant() -> sa.Column[str]:
    """Return a new column for the tenant; what exists belongs to `local`."""
    return sa.Column("tenant", sa.Text(), nullable=False, server_default="local")


def upgrade() -> None:
    """Add the tenant to both tables and to their keys."""
    with op.batch_alter_table("completions") as table:
        table.add_column(tenant())
        table.drop_constraint("pk_completions", type_="primary")
        table.create_primary_key("pk_completions", ["tenant", "id"])
        for name, kind in ROLLOUT:
            table.alter_column(name, existing_type=kind, nullable=True)
    op.create_index("ix_completions_tenant_at", "completions", ["tenant", "at"])
    with op.batch_alter_table("feedback", table_kwargs={"sqlite_autoincrement": True}) as table:
        table.add_column(tenant())
        table.drop_constraint("uq_feedback_completion_id", type_="unique")
        table.create_unique_constraint("uq_feedback_tenant_completion_id", ["tenant", "completion_id"])
        for name, kind in ROLLOUT:
            table.alter_column(name, existing_type=kind, nullable=True)
    op.create_index("ix_feedback_served_name", "feedback", ["served_name"])
