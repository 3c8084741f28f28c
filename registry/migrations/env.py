"""Alembic runs this file; the connection, and the transaction on it, are those of `registry.database.migrate`."""

from alembic import context

from registry.columns import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
