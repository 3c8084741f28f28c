"""The tables of uploads in parts as `migrations/` creates them."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from registry.columns import at, metadata, sequence, tenant

uploads: Final = sa.Table(
    "uploads",
    metadata,
    sequence(),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("filename", sa.Text, nullable=False),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("mime_type", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("file_expires_after_s", sa.BigInteger),
    sa.Column("state", sa.Text, nullable=False, index=True),
    sa.Column("file_id", sa.Text),
    sa.Column("owner", sa.Text, nullable=False),
    tenant(),
    at("created_at"),
    at("expires_at"),
    sqlite_autoincrement=True,
)

upload_parts: Final = sa.Table(
    "upload_parts",
    metadata,
    sequence(),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("upload_id", sa.Text, sa.ForeignKey("uploads.id"), nullable=False, index=True),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.Text, nullable=False, index=True),
    at("created_at"),
    sqlite_autoincrement=True,
)
"""Parts of unfinished uploads, their bytes in the artifact store; those of others are removed soon."""
