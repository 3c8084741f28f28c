"""The columns by which the queue of jobs is ordered and placed: estimates, dependencies, uses of owners, workers."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    """Add the columns and the three tables."""
    for column in (
        sa.Column("base_digest", sa.Text, nullable=False, server_default=""),
        sa.Column("is_light", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("needed_bytes", sa.BigInteger),
        sa.Column("expected_s", sa.Double),
        sa.Column("queued_at", sa.Double, nullable=False, server_default="0"),
        sa.Column("not_before", sa.Double, nullable=False, server_default="0"),
        sa.Column("claimed_at", sa.Double),
        sa.Column("losses", sa.Integer, nullable=False, server_default="0"),
        sa.Column("gives_way_to", sa.Text),
        sa.Column("gave_way", sa.Integer, nullable=False, server_default="0"),
    ):
        op.add_column("jobs", column)
    _fill()
    op.drop_index("ix_jobs_state", "jobs")
    op.create_index(
        "ix_jobs_queue",
        "jobs",
        [
            "state",
            "priority",
            "tenant",
            "seq",
            "id",
            "base_digest",
            "is_light",
            "needed_bytes",
            "not_before",
            "queued_at",
        ],
    )
    _add_tables()


def _fill() -> None:
    jobs = sa.table(
        "jobs",
        sa.column("spec", sa.JSON),
        *(sa.column(name) for name in ("state", "base_digest", "queued_at", "created_at", "claimed_at", "phase_since")),
    )
    digest = sa.func.coalesce(jobs.c.spec["base_digest"].as_string(), "")
    op.execute(sa.update(jobs).values(base_digest=digest, queued_at=jobs.c.created_at))
    # Nobody recorded when a running attempt began; the phase that it is in began later.
    op.execute(sa.update(jobs).where(jobs.c.state == "running").values(claimed_at=jobs.c.phase_since))


def _add_tables() -> None:
    op.create_table(
        "job_dependencies",
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("after", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "after", name="pk_job_dependencies"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_dependencies_job_id"),
        sa.ForeignKeyConstraint(["after"], ["jobs.id"], name="fk_job_dependencies_after"),
    )
    op.create_index("ix_job_dependencies_after", "job_dependencies", ["after"])
    op.create_table(
        "trainer_uses",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("day", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("used_s", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "day", name="pk_trainer_uses"),
    )
    op.create_table(
        "trainer_workers",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("total_bytes", sa.BigInteger),
        sa.Column("free_bytes", sa.BigInteger),
        sa.Column("places", sa.Integer, nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("reported_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_trainer_workers"),
    )
