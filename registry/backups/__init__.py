"""Copies of a registry: rows from one database into another of either kind, and backups made while Lorry runs."""
