"""Adapters and their immutable revisions."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping
from typing import Final

import sqlalchemy as sa

from registry import tables
from registry.audit import Act, write_audit
from registry.errors import NotFound, NotServable
from registry.states import AdapterKind, RevisionState
from registry.transactions import Transactions
from registry.types import Adapter, Revision
from registry.wording.suggestions import meant_or_known

_MOST_LISTED: Final = 10
"""How many revisions, the newest, an error lists."""
_MOST_BY_KEY: Final = 1000
"""Revisions that are read by name; more are read with all others."""
MOST_DIGITS: Final = 18
"""Digits of the longest number that a database compares with its own."""


def find_adapter(tx: sa.Connection, name: str, *, lock: bool = False) -> Adapter:
    """Return the adapter *name*, locked until the transaction ends with *lock*. Raises `NotFound`."""
    query = sa.select(tables.adapters).where(tables.adapters.c.name == name)
    row = tx.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    if row is None:
        there = tx.execute(sa.select(tables.adapters.c.name).order_by(tables.adapters.c.name)).scalars()
        raise NotFound(f"there is no adapter {name!r}{meant_or_known(name, there)}")
    return adapter_of(row)


def find_revision(tx: sa.Connection, adapter: str, number: int) -> Revision:
    """Return the revision *adapter*@*number*. Raises `NotFound`."""
    query = sa.select(tables.revisions).where(
        tables.revisions.c.adapter == adapter, tables.revisions.c.number == number
    )
    row = tx.execute(query).mappings().one_or_none()
    if row is None:
        find_adapter(tx, adapter)
        column = tables.revisions.c.number
        numbers = tx.execute(sa.select(column).where(tables.revisions.c.adapter == adapter).order_by(column.desc()))
        listed = ", ".join(f"{adapter}@{each}" for each in numbers.scalars().fetchmany(_MOST_LISTED))
        raise NotFound(f"there is no revision {adapter}@{number}; there are {listed}")
    return revision_of(row)


def served_adapters(tx: sa.Connection, base: str | None = None) -> list[Adapter]:
    """Return the adapters that answer requests, by name; those of the base model *base* where it is given."""
    served = sa.select(tables.adapters).where(tables.adapters.c.kind == AdapterKind.CHAT)
    if base is not None:
        served = served.where(tables.adapters.c.base == base)
    return [adapter_of(row) for row in tx.execute(served.order_by(tables.adapters.c.name)).mappings()]


class RevisionReader:
    """Reads the revisions that may be served, and of their rows only those that it has not read before.

    A revision never changes, so what is known of it stays right for as long as it may be served.
    """

    def __init__(self) -> None:
        self._known: dict[str | None, dict[tuple[str, int], Revision]] = {}
        """The rows that were read last by base model; by adapter and number."""

    def read(self, tx: sa.Connection, base: str | None = None) -> list[Revision]:
        """Return the revisions by adapter and number, those of *base* where it is given, without their provenance."""
        known = self._known.get(base, {})
        columns = [tables.revisions.c.adapter, tables.revisions.c.number]
        query = sa.select(*columns).where(_may_be_served(base)).order_by(*columns)
        keys = [(row.adapter, row.number) for row in tx.execute(query)]
        missing = [key for key in keys if key not in known]
        missing_rows = _may_be_served(base) if len(missing) > _MOST_BY_KEY else sa.tuple_(*columns).in_(missing)
        fetched = {(each.adapter, each.number): each for each in _revisions(tx, missing_rows)} if missing else {}
        found = {key: known.get(key) or fetched[key] for key in keys}
        # Replaced as a whole: a thread that reads at the same time keeps the dictionary with which it began.
        self._known[base] = found
        return list(found.values())


def _may_be_served(base: str | None) -> sa.ColumnElement[bool]:
    # The kind of an adapter never changes, so that the change number of `revisions` covers this condition too.
    others = sa.select(tables.adapters.c.name).where(tables.adapters.c.kind != AdapterKind.CHAT)
    columns = tables.revisions.c
    ready = sa.and_(columns.state == RevisionState.READY, columns.adapter.not_in(others))
    return ready if base is None else sa.and_(ready, columns.base == base)


def _revisions(tx: sa.Connection, condition: sa.ColumnElement[bool]) -> Iterator[Revision]:
    columns = [column for column in tables.revisions.columns if column.name != "provenance"]
    for row in tx.execute(sa.select(*columns).where(condition)).mappings():
        yield revision_of(row)


def adapter_of(row: sa.RowMapping) -> Adapter:
    """Return a row of `adapters` as a value."""
    return Adapter(**(dict(row) | {"kind": AdapterKind(row["kind"])}))


def revision_of(row: sa.RowMapping) -> Revision:
    """Return a row of `revisions` as a value."""
    changed = {"state": RevisionState(row["state"]), "target_modules": tuple(row["target_modules"])}
    return Revision(**(dict(row) | changed))


class AdapterStore:
    """Stores adapters and revisions; `registry.publishing.publish` adds the revisions."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions

    def get(self, name: str) -> Adapter:
        """Return the adapter *name*. Raises `NotFound`."""
        with self._tx.read() as tx:
            return find_adapter(tx, name)

    def revision(self, name: str, number: int) -> Revision:
        """Return the revision *name*@*number*. Raises `NotFound`."""
        with self._tx.read() as tx:
            return find_revision(tx, name, number)

    def named(self, name: str) -> Revision:
        """Return the revision with the served name or alias *name*. `NotFound` shows what a name looks like."""
        adapter, _, number = name.rpartition("@")
        alias = sa.select(tables.revisions).where(tables.revisions.c.alias == name)
        with self._tx.read() as tx:
            if adapter and number.isascii() and number.isdigit() and len(number) <= MOST_DIGITS:
                return find_revision(tx, adapter, int(number))
            row = tx.execute(alias).mappings().one_or_none()
        if row is None:
            raise NotFound(f"there is no revision {name!r}; a revision is named NAME@N, or ft:... by its alias")
        return revision_of(row)

    def revisions(self, name: str) -> builtins.list[Revision]:
        """Return every revision of the adapter *name*, newest first. Raises `NotFound`."""
        query = sa.select(tables.revisions).where(tables.revisions.c.adapter == name)
        with self._tx.read() as tx:
            find_adapter(tx, name)
            rows = tx.execute(query.order_by(tables.revisions.c.number.desc())).mappings()
            return [revision_of(row) for row in rows]

    def list(self) -> builtins.list[Adapter]:
        """Return every adapter, ordered by name."""
        with self._tx.read() as tx:
            rows = tx.execute(sa.select(tables.adapters).order_by(tables.adapters.c.name)).mappings()
            return [adapter_of(row) for row in rows]

    def latest(self) -> Mapping[str, int]:
        """Return the highest number of a ready revision of each adapter that has one."""
        table = tables.revisions
        highest = sa.select(table.c.adapter, sa.func.max(table.c.number)).where(table.c.state == RevisionState.READY)
        with self._tx.read() as tx:
            return {adapter: number for adapter, number in tx.execute(highest.group_by(table.c.adapter))}

    def retire(self, name: str, number: int, actor: str, *, may_be_last: bool = False) -> Revision:
        """Take the revision out of service. `NotServable` if it is stable, retired, or part of an open rollout.

        With *may_be_last* the stable revision is retired if no other one is left to take its place.
        """
        with self._tx.write() as tx:
            # A rollout starts under the same lock, so none of this revision can begin between the check and the update.
            adapter = find_adapter(tx, name, lock=True)
            revision = find_revision(tx, name, number)
            if may_be_last and adapter.stable == number and _is_last(tx, revision):
                nothing = {"stable": None, "previous_stable": None, "stable_since": None}
                tx.execute(sa.update(tables.adapters).where(tables.adapters.c.name == name).values(**nothing))
                adapter = find_adapter(tx, name)
            _check_retirable(tx, adapter, revision)
            tx.execute(
                sa.update(tables.revisions)
                .where(tables.revisions.c.adapter == name, tables.revisions.c.number == number)
                .values(state=RevisionState.RETIRED)
            )
            act = Act(actor=actor, action="revision.retire", subject=revision.served_name)
            write_audit(tx, act, self._tx.now())
            return find_revision(tx, name, number)

    def set_first_stable(self, name: str, number: int, reason: str) -> bool:
        """Make *number* the stable revision of an adapter without one; return False if the adapter has one by now."""
        with self._tx.write() as tx:
            find_adapter(tx, name, lock=True)
            revision = find_revision(tx, name, number)
            if revision.state is not RevisionState.READY:
                raise NotServable(f"{revision.served_name} is {revision.state}, it cannot become stable")
            now = self._tx.now()
            moved = tx.execute(
                sa.update(tables.adapters)
                .where(tables.adapters.c.name == name, tables.adapters.c.stable.is_(None))
                .values(stable=number, stable_since=now)
            )
            if moved.rowcount == 1:
                detail = {"reason": reason}
                act = Act(
                    actor="controller", action="adapter.first_stable", subject=revision.served_name, detail=detail
                )
                write_audit(tx, act, now)
            return moved.rowcount == 1


def _is_last(tx: sa.Connection, revision: Revision) -> bool:
    """Return whether the adapter has no other revision that may be served."""
    table = tables.revisions
    others = sa.select(table.c.number).where(
        table.c.adapter == revision.adapter, table.c.number != revision.number, table.c.state == RevisionState.READY
    )
    return tx.execute(others.limit(1)).first() is None


def _check_retirable(tx: sa.Connection, adapter: Adapter, revision: Revision) -> None:
    if revision.state is RevisionState.RETIRED:
        raise NotServable(f"{revision.served_name} is retired already")
    if adapter.stable == revision.number:
        raise NotServable(f"{revision.served_name} is the stable revision; roll out another one first")
    query = sa.select(tables.rollouts.c.id, tables.rollouts.c.canary, tables.rollouts.c.stable).where(
        tables.rollouts.c.adapter == adapter.name, sa.text(tables.OPEN_ROLLOUT)
    )
    rollout = tx.execute(query).one_or_none()
    if rollout is not None and revision.number in (rollout.canary, rollout.stable):
        raise NotServable(f"{revision.served_name} is part of the open rollout {rollout.id}; end that first")
