"""The tables of reports and reviews of training files as `migrations/` creates them."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from registry.columns import at, metadata, sequence, tenant

file_reports: Final = sa.Table(
    "file_reports",
    metadata,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("report", sa.JSON, nullable=False),
    at("at"),
)

data_reviews: Final = sa.Table(
    "data_reviews",
    metadata,
    sequence(),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("digest", sa.Text, nullable=False, index=True),
    tenant(),
    sa.Column("reviewer", sa.Text, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("verdicts", sa.JSON, nullable=False),
    at("at"),
    sqlite_autoincrement=True,
)
