"""The history of the tables, run by `registry.database.migrate`."""
