"""Ids that begin like what a person typed, as the short ids of tables do."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa

from registry import tables
from registry.batches.batch_tables import batches
from registry.evaluations.evaluation_tables import evaluations
from registry.transactions import Transactions
from registry.wording.id_parts import LEAST_TYPED, random_part

MOST_FOUND: Final = 20


class IdKind(StrEnum):
    """A kind of thing that people name by the beginning of its id."""

    JOB = "job"
    BATCH = "batch"
    FILE = "file"
    KEY = "key"
    EVALUATION = "evaluation"
    ROLLOUT = "rollout"
    REVISION = "revision"  # by the digest of its artifact; its name is what is found


_TABLES: Final[Mapping[IdKind, sa.Table]] = {
    IdKind.JOB: tables.jobs,
    IdKind.BATCH: batches,
    IdKind.FILE: tables.files,
    IdKind.KEY: tables.keys,
    IdKind.EVALUATION: evaluations,
    IdKind.ROLLOUT: tables.rollouts,
}
OF_TENANTS: Final = frozenset({IdKind.JOB, IdKind.BATCH, IdKind.FILE, IdKind.EVALUATION})
"""Kinds whose rows belong to tenants; all others are for admins."""


class IdPrefixes:
    """Finds whole ids by their beginnings."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions

    def find(self, kind: IdKind, typed: str, tenant: str | None = None) -> list[str]:
        """Return at most `MOST_FOUND` ids of *kind* that begin with *typed*, newest first; of *tenant* if one is given.

        *typed* may leave out the marker of the kind, such as `ftjob-`. A revision is found by the beginning of its
        digest, and returned by its name.
        """
        typed = typed.lower()
        if len(random_part(typed)) < LEAST_TYPED:
            return []
        query = _of_revisions(typed) if kind is IdKind.REVISION else _of_table(_TABLES[kind], typed)
        if tenant is not None:
            query = query.where(_TABLES[kind].c.tenant == tenant)
        with self._tx.read() as tx:
            return list(tx.execute(query.limit(MOST_FOUND)).scalars())


def _of_table(table: sa.Table, typed: str) -> sa.Select[Any]:
    begins = [table.c.id.startswith(typed, autoescape=True)]
    if typed.isalnum():
        begins += [table.c.id.like(f"%{mark}{typed}%", escape="\\") for mark in ("-", r"\_")]
    return sa.select(table.c.id).where(sa.or_(*begins)).order_by(table.c.seq.desc())


def _of_revisions(typed: str) -> sa.Select[Any]:
    table = tables.revisions
    name = table.c.adapter + "@" + sa.cast(table.c.number, sa.Text)
    return (
        sa.select(name)
        .where(table.c.artifact.startswith(typed, autoescape=True))
        .order_by(table.c.created_at.desc(), table.c.number.desc())
    )
