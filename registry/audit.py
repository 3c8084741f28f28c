"""The audit log: who did what to which thing."""

from __future__ import annotations

import builtins
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from registry import tables
from registry.transactions import Transactions
from registry.types import AuditEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """An act of *actor*, recorded in the transaction that carries it out."""

    actor: str
    action: str
    """The noun and what happened to it: `rollout.start`, `rollout.aborted`."""
    subject: str
    detail: Mapping[str, Any] = field(default_factory=dict)


def write_audit(tx: sa.Connection, act: Act, at: float) -> None:
    """Record *act* in the transaction that carries it out."""
    entry = {"at": at, "actor": act.actor, "action": act.action, "subject": act.subject, "detail": dict(act.detail)}
    tx.execute(sa.insert(tables.audit).values(entry))


class AuditStore:
    """The audit log. Methods of stores that take an `actor` write their own entry; `record` is for all other acts."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions

    def record(self, actor: str, action: str, subject: str, detail: Mapping[str, Any] | None = None) -> None:
        """Record one act in a transaction of its own."""
        with self._tx.write() as tx:
            act = Act(actor=actor, action=action, subject=subject, detail=detail or {})
            write_audit(tx, act, self._tx.now())

    def list(self, limit: int = 100, after: int | None = None) -> builtins.list[AuditEntry]:
        """Return entries, newest first; *after* is the id of the last entry of the previous page."""
        query = sa.select(tables.audit).order_by(tables.audit.c.id.desc()).limit(limit)
        if after is not None:
            query = query.where(tables.audit.c.id < after)
        with self._tx.read() as tx:
            return [AuditEntry(**row) for row in tx.execute(query).mappings()]

    def about(self, subjects: Collection[str], limit: int) -> builtins.list[AuditEntry]:
        """Return the newest *limit* entries about *subjects*, oldest first."""
        query = sa.select(tables.audit).where(tables.audit.c.subject.in_(subjects))
        with self._tx.read() as tx:
            rows = tx.execute(query.order_by(tables.audit.c.id.desc()).limit(limit)).mappings()
            return [AuditEntry(**row) for row in rows][::-1]
