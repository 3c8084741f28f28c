"""Permissions of other tenants to use a revision, as OpenAI shares a fine-tuned checkpoint with other projects."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Final

import sqlalchemy as sa

from registry.audit import Act, write_audit
from registry.columns import at, metadata, sequence
from registry.errors import NotFound
from registry.transactions import Transactions, insert_or_ignore

checkpoint_permissions: Final = sa.Table(
    "checkpoint_permissions",
    metadata,
    sequence(),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("served_name", sa.Text, nullable=False),
    sa.Column("project", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    at("created_at"),
    sa.UniqueConstraint("served_name", "project"),
    sqlite_autoincrement=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointPermission:
    """The permission of one tenant, which OpenAI calls a project, to use one revision."""

    id: str
    served_name: str
    project: str
    actor: str
    created_at: float


class CheckpointPermissionStore:
    """Stores permissions; a tenant has at most one for a revision."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions

    def create(self, served_name: str, projects: Sequence[str], actor: str) -> builtins.list[CheckpointPermission]:
        """Return the permissions of *projects* to use the revision, in this order; those that exist are kept."""
        table = checkpoint_permissions
        with self._tx.write() as tx:
            now = self._tx.now()
            for project in projects:
                facts = {"served_name": served_name, "project": project, "actor": actor, "created_at": now}
                if insert_or_ignore(tx, table, {"id": f"cp_{token_hex(12)}", **facts}):
                    act = Act(actor=actor, action="revision.share", subject=served_name, detail={"tenant": project})
                    write_audit(tx, act, now)
            found = {each.project: each for each in _of(tx, table.c.served_name == served_name)}
            return [found[project] for project in dict.fromkeys(projects)]

    def list(self, served_name: str, project: str | None = None) -> builtins.list[CheckpointPermission]:
        """Return the permissions to use the revision, oldest first; those of *project* alone if one is given."""
        table = checkpoint_permissions
        which = table.c.served_name == served_name
        with self._tx.read() as tx:
            return _of(tx, which if project is None else sa.and_(which, table.c.project == project))

    def delete(self, served_name: str, permission_id: str, actor: str) -> None:
        """Take the permission back. Raises `NotFound`."""
        table = checkpoint_permissions
        which = sa.and_(table.c.served_name == served_name, table.c.id == permission_id)
        with self._tx.write() as tx:
            found = _of(tx, which)
            if not found:
                raise NotFound(f"{served_name} has no permission {permission_id!r}")
            tx.execute(sa.delete(table).where(which))
            act = Act(actor=actor, action="revision.unshare", subject=served_name, detail={"tenant": found[0].project})
            write_audit(tx, act, self._tx.now())


def all_permissions(tx: sa.Connection) -> list[CheckpointPermission]:
    """Return every permission, oldest first."""
    return _of(tx, sa.true())


def _of(tx: sa.Connection, which: sa.ColumnElement[bool]) -> list[CheckpointPermission]:
    table = checkpoint_permissions
    rows = tx.execute(sa.select(table).where(which).order_by(table.c.seq)).mappings()
    return [CheckpointPermission(**{name: value for name, value in row.items() if name != "seq"}) for row in rows]
