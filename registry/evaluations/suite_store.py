"""Suites in the database, by digest."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from registry.errors import NotFound
from registry.evaluations.evaluation_tables import evaluation_suites
from registry.transactions import Transactions, insert_or_ignore


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSuite:
    """A suite as it is stored: its content is canonical JSON."""

    digest: str
    name: str
    content: str
    rows: int


class SuiteStore:
    """Stores suites; one is kept for good, since plans and evaluations name it by its digest."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions

    def put(self, suite: StoredSuite, tenant: str) -> None:
        """Keep the suite; one with the same content that is there already stays."""
        row = {name: getattr(suite, name) for name in suite.__dataclass_fields__}
        with self._tx.write() as tx:
            insert_or_ignore(tx, evaluation_suites, {**row, "tenant": tenant, "created_at": self._tx.now()})

    def get(self, digest: str, tenant: str | None = None) -> StoredSuite:
        """Return the suite of this digest, of *tenant* if one is given. Raises `NotFound`."""
        query = sa.select(evaluation_suites).where(evaluation_suites.c.digest == digest).limit(1)
        if tenant is not None:
            query = query.where(evaluation_suites.c.tenant == tenant)
        with self._tx.read() as tx:
            row = tx.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFound(f"there is no suite with the digest {digest[:12]!r}")
        return StoredSuite(**{name: row[name] for name in StoredSuite.__dataclass_fields__})
