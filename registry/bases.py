"""The base models that adapters are trained for and served on."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

import sqlalchemy as sa

from registry import tables
from registry.errors import Conflict, NotFound
from registry.transactions import Transactions, insert_or_ignore
from registry.types import LOAD_TESTS, Base
from registry.wording.suggestions import meant_or_known

_COLUMNS: Final = [column for column in tables.bases.columns if column.name != "provenance"]


def find_base(tx: sa.Connection, name: str) -> Base:
    """Return the base model *name*. `NotFound` lists the known ones."""
    row = tx.execute(sa.select(tables.bases).where(tables.bases.c.name == name)).mappings().one_or_none()
    if row is None:
        names = tx.execute(sa.select(tables.bases.c.name).order_by(tables.bases.c.name)).scalars().all()
        raise NotFound(f"there is no base model {name!r}{meant_or_known(name, names)}")
    return Base(**row)


def all_bases(tx: sa.Connection) -> list[Base]:
    """Return every base model, ordered by name, without its provenance."""
    return [Base(**row) for row in tx.execute(sa.select(*_COLUMNS).order_by(tables.bases.c.name)).mappings()]


def is_artifact(base: Base) -> bool:
    """Whether the weights are in the store of artifacts: a job made them, or their place is the address of a bucket."""
    return base.is_checkpoint or not base.path.startswith("/")


class BaseStore:
    """Stores base models by name; the digest of a name never changes."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions

    def enter(self, base: Base) -> Base:
        """Store *base* or refresh its path, and return it as stored. `Conflict` if the name has other weights."""
        with self._tx.write() as tx:
            taken = sa.select(tables.adapters.c.name).where(tables.adapters.c.name == base.name)
            if tx.execute(taken).first() is not None:
                raise Conflict(f"{base.name!r} is the name of an adapter; enter the base model under another name")
            insert_or_ignore(tx, tables.bases, asdict(base))
            stored = find_base(tx, base.name)
            if stored.digest != base.digest:
                raise Conflict(
                    f"base model {base.name!r} is in the registry with digest {stored.digest[:12]}, "
                    f"the folder {base.path} has {base.digest[:12]}: enter other weights under another name"
                )
            values = {"path": base.path, "licence": base.licence}
            tx.execute(sa.update(tables.bases).where(tables.bases.c.name == base.name).values(values))
            return find_base(tx, base.name)

    def get(self, name: str) -> Base:
        """Return the base model *name*. Raises `NotFound`."""
        with self._tx.read() as tx:
            return find_base(tx, name)

    def list(self) -> builtins.list[Base]:
        """Return every base model, ordered by name, without its provenance."""
        with self._tx.read() as tx:
            return all_bases(tx)

    def note_load_test(self, name: str, kind: str, found: Mapping[str, Any]) -> None:
        """Store in the provenance of *name* what became of it on engines of *kind*; the last one counts. `NotFound`."""
        with self._tx.write() as tx:
            base = find_base(tx, name)
            tests = {**base.provenance.get(LOAD_TESTS, {}), kind: {**found, "at": self._tx.now()}}
            row = sa.update(tables.bases).where(tables.bases.c.name == name)
            tx.execute(row.values(provenance={**base.provenance, LOAD_TESTS: tests}))

    def locate_checkpoints(self, location: Callable[[str], str]) -> None:
        """Set the places of all that are artifacts by their digests: artifacts move with their registry."""
        with self._tx.read() as tx:
            moved = [base for base in all_bases(tx) if is_artifact(base) and base.path != location(base.digest)]
        if moved:
            with self._tx.write() as tx:
                for base in moved:
                    row = sa.update(tables.bases).where(tables.bases.c.name == base.name)
                    tx.execute(row.values(path=location(base.digest)))
