"""Keys, files, jobs and adapters get a tenant. What an older Lorry stored belongs to the name of the key that made it.

Whatever was made without a key belongs to the tenant `local`. Adapters that exist stay open to every key.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

LOCAL = "local"


def upgrade() -> None:
    """Add the columns and the table of owners, and fill both."""
    op.add_column("keys", sa.Column("tenant", sa.Text(), nullable=False, server_default=""))
    for table in ("files", "jobs"):
        op.add_column(table, sa.Column("tenant", sa.Text(), nullable=False, server_default=LOCAL))
        op.create_index(f"ix_{table}_tenant", table, ["tenant"])
        # Without a key the owner is what a client claimed to be, which no later key may inherit.
        op.execute(f"UPDATE {table} SET tenant = owner WHERE owner IN (SELECT name FROM keys)")  # noqa: S608
    op.create_table(
        "adapter_owners",
        sa.Column("adapter", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("is_shared", sa.Boolean(), nullable=False),
        sa.Column("claimed_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("adapter", name="pk_adapter_owners"),
    )
    op.execute(
        "INSERT INTO adapter_owners (adapter, tenant, is_shared, claimed_at) "
        "SELECT a.name, CASE WHEN r.owner IN (SELECT name FROM keys) THEN r.owner ELSE 'local' END, "
        "TRUE, a.created_at FROM adapters a JOIN revisions r ON r.adapter = a.name "
        "WHERE r.number = (SELECT min(number) FROM revisions WHERE adapter = a.name)"
    )
