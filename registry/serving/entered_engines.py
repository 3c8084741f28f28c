"""Engines that were started elsewhere and entered by hand, which the controller supervises."""

from __future__ import annotations

import builtins
from dataclasses import asdict

import sqlalchemy as sa

from registry.audit import Act, write_audit
from registry.bases import find_base
from registry.errors import Conflict, NotFound
from registry.serving.serving_tables import entered_engines
from registry.transactions import Transactions, insert_or_ignore
from registry.types import EnteredEngine


class EnteredEngineStore:
    """Stores entered engines; the controller reports each in `replicas` under the same id, and drains a removed one."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions

    def enter(self, entered: EnteredEngine) -> None:
        """Put an engine under supervision. `NotFound` for an unknown base, `Conflict` if its address is entered."""
        with self._tx.write() as tx:
            find_base(tx, entered.base)
            if not insert_or_ignore(tx, entered_engines, asdict(entered)):
                raise Conflict(f"an engine at {_shown(entered.url)} is entered already; `lorry replicas` shows it")
            detail = {"url": _shown(entered.url), "engine": entered.engine, "base": entered.base}
            act = Act(actor=entered.actor, action="replica.enter", subject=entered.id, detail=detail)
            write_audit(tx, act, self._tx.now())

    def remove(self, replica_id: str, actor: str) -> None:
        """Stop the supervision of an entered engine. `NotFound` if *replica_id* was not entered by hand."""
        table = entered_engines
        with self._tx.write() as tx:
            if tx.execute(sa.delete(table).where(table.c.id == replica_id)).rowcount != 1:
                ids = tx.execute(sa.select(table.c.id).order_by(table.c.id)).scalars().all()
                raise NotFound(
                    f"no engine {replica_id!r} was entered by hand; there are: {', '.join(ids) or 'none'}. "
                    "Replicas of a pool come and go with its settings"
                )
            write_audit(tx, Act(actor=actor, action="replica.remove", subject=replica_id), self._tx.now())

    def list(self) -> builtins.list[EnteredEngine]:
        """Return every entered engine, ordered by id."""
        with self._tx.read() as tx:
            rows = tx.execute(sa.select(entered_engines).order_by(entered_engines.c.id)).mappings()
            return [EnteredEngine(**row) for row in rows]


def _shown(url: str) -> str:
    # A server's key is part of its address, and is for nobody who reads errors or the audit log.
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
