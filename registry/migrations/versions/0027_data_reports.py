"""Reports on training files, and what people who read a sample of a file signed."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    """Add the columns and tables; files that are there already get no report."""
    op.add_column("files", sa.Column("report_state", sa.Text()))
    op.add_column("files", sa.Column("report_message", sa.Text()))
    op.add_column("files", sa.Column("report_attempt", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("files", sa.Column("report_beat", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_index("ix_files_report_state", "files", ["report_state"])
    op.create_table(
        "file_reports",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_file_reports")),
    )
    op.create_table(
        "data_reviews",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False, server_default="local"),
        sa.Column("reviewer", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("verdicts", sa.JSON(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_data_reviews")),
        sa.UniqueConstraint("id", name=op.f("uq_data_reviews_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_data_reviews_digest", "data_reviews", ["digest"])
