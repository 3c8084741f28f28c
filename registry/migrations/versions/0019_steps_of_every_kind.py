"""Steps of jobs are served by the job and not by its revision, and a whole model may be the step of a job too."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"

TABLE = "served_checkpoints"


def upgrade() -> None:
    """Make the table anew with its rows, whose names stay, and add the columns."""
    rows = _rows(op.get_bind())
    op.drop_table(TABLE)
    made = op.create_table(
        TABLE,
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("adapter", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("known_as", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("artifact", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("is_result", sa.Boolean(), nullable=False),
        sa.Column("base", sa.Text(), nullable=False),
        sa.Column("base_digest", sa.Text(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("target_modules", sa.JSON(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("discarded_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("job_id", "step", name="pk_served_checkpoints"),
        sa.UniqueConstraint("alias", name="uq_served_checkpoints_alias"),
    )
    op.create_index("ix_served_checkpoints_artifact", TABLE, ["artifact"])
    op.create_index("ix_served_checkpoints_known_as", TABLE, ["known_as"])
    if rows:
        op.bulk_insert(made, rows)
    op.add_column("bases", sa.Column("step", sa.Integer(), nullable=True))
    op.add_column("bases", sa.Column("alias", sa.Text(), nullable=True))
    op.add_column("bases", sa.Column("expires_at", sa.Double(), nullable=True))


def _rows(bind: sa.Connection) -> list[dict[str, Any]]:
    """Return the rows of the old table as the new one has them."""
    steps, revisions = (sa.Table(name, sa.MetaData(), autoload_with=bind) for name in (TABLE, "revisions"))
    same = sa.and_(steps.c.adapter == revisions.c.adapter, steps.c.number == revisions.c.number)
    taken = ("base", "base_digest", "rank", "target_modules", "job_id", "owner", "created_at")
    query = sa.select(*steps.c, *(revisions.c[name] for name in taken)).join(revisions, same)
    found = []
    for row in bind.execute(query).mappings():
        name = f"{row['adapter']}@{row['number']}"
        known_as = name if row["is_result"] else f"{name}-step-{row['step']}"
        found.append({**row, "job_id": row["job_id"] or name, "known_as": known_as, "kind": "chat"})
    return found
