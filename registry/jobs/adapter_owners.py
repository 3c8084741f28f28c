"""Owners of adapters: the tenant that may train an adapter, and whether every key may use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from registry import tables
from registry.audit import Act, write_audit
from registry.errors import NameTaken, NotFound
from registry.jobs.job_state import ENDED
from registry.jobs.served_checkpoints import served_checkpoints
from registry.states import RevisionState
from registry.transactions import Transactions, insert_or_ignore, upsert
from registry.types import LOCAL_TENANT


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterOwner:
    """To whom an adapter belongs. A name is claimed with the job that makes its first revision."""

    adapter: str
    tenant: str
    is_shared: bool
    """Whether every key may use the adapter; otherwise the tenant's keys, admin keys and keys that name it."""
    claimed_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The rights of a job's author to the adapter that the job is for."""

    tenant: str
    shares: bool
    """Whether a new adapter of this author is open to every key."""
    may_take_any: bool
    """Whether the author may train adapters of other tenants."""


LOCAL_CLAIM: Final = Claim(tenant=LOCAL_TENANT, shares=True, may_take_any=True)
"""The claim of everybody while there are no keys."""


class AdapterOwnerStore:
    """Reads and changes owners; `claim_adapter` enters them."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions

    def get(self, adapter: str) -> AdapterOwner | None:
        """Return the owner of the name; None while nobody has claimed it."""
        with self._tx.read() as tx:
            return owner_of(tx, adapter)

    def check(self, adapter: str, claim: Claim) -> None:
        """Raise `NameTaken` if the adapter is not for *claim*; a job's creation checks again."""
        with self._tx.read() as tx:
            holder = owner_of(tx, adapter)
            if holder is not None and not _may_take(tx, holder, claim):
                raise NameTaken(_taken(adapter))

    def change(self, adapter: str, *, tenant: str | None, is_shared: bool | None, actor: str) -> AdapterOwner:
        """Give the adapter to *tenant*, and open it to every key or close it; None leaves it as it is. `NotFound`."""
        with self._tx.write() as tx:
            before = owner_of(tx, adapter)
            if before is None:
                raise NotFound(f"there is no adapter {adapter!r}")
            after = AdapterOwner(
                adapter=adapter,
                tenant=before.tenant if tenant is None else tenant,
                is_shared=before.is_shared if is_shared is None else is_shared,
                claimed_at=before.claimed_at,
            )
            put_owner(tx, after)
            detail = {"tenant": after.tenant, "shared": after.is_shared}
            write_audit(tx, Act(actor=actor, action="adapter.owner", subject=adapter, detail=detail), self._tx.now())
            return after


def owner_of(tx: sa.Connection, adapter: str) -> AdapterOwner | None:
    """Return the owner of the name; None while nobody has claimed it."""
    table = tables.adapter_owners
    row = tx.execute(sa.select(table).where(table.c.adapter == adapter)).mappings().one_or_none()
    if row is not None:
        return AdapterOwner(**row)
    made = sa.select(tables.adapters.c.created_at).where(tables.adapters.c.name == adapter)
    created_at = tx.execute(made).scalar_one_or_none()
    # An adapter that no job has made (the bundled ones) was published on this machine.
    return None if created_at is None else _local(adapter, created_at)


def all_owners(tx: sa.Connection) -> list[AdapterOwner]:
    """Return every owner that was entered, ordered by adapter."""
    rows = tx.execute(sa.select(tables.adapter_owners).order_by(tables.adapter_owners.c.adapter)).mappings()
    return [AdapterOwner(**row) for row in rows]


def claim_adapter(tx: sa.Connection, adapter: str, claim: Claim, now: float) -> AdapterOwner:
    """Return the owner of the name, which is the claimant if the name is free.

    A name is free until an adapter has it, or a job that has not ended is for it. Raises `NameTaken`.
    """
    wanted = AdapterOwner(adapter=adapter, tenant=claim.tenant, is_shared=claim.shares, claimed_at=now)
    table = tables.adapter_owners
    # The row is the lock of the name: of two claims at once the second one waits here and sees the first one's job.
    tx.execute(sa.select(table.c.adapter).where(table.c.adapter == adapter).with_for_update())
    holder = owner_of(tx, adapter)
    if holder is None:
        insert_or_ignore(tx, table, _row(wanted))
        holder = owner_of(tx, adapter) or wanted
    if holder.tenant != claim.tenant and _is_free(tx, adapter):
        put_owner(tx, wanted)
        return wanted
    if not _may_take(tx, holder, claim):
        raise NameTaken(_taken(adapter))
    return holder


def _may_take(tx: sa.Connection, holder: AdapterOwner, claim: Claim) -> bool:
    return claim.may_take_any or holder.tenant == claim.tenant or _is_free(tx, holder.adapter)


def _taken(adapter: str) -> str:
    return (
        f"the name {adapter!r} is taken by an adapter of another tenant; choose another name, or ask an admin for a "
        f"key whose models list it"
    )


def _is_free(tx: sa.Connection, adapter: str) -> bool:
    # A checkpoint has its owner in this table too, under its own name.
    for table in (tables.adapters, tables.bases):
        if tx.execute(sa.select(table.c.name).where(table.c.name == adapter)).first() is not None:
            return False
    # So are steps of a job that failed or was cancelled: they are their owner's as long as they answer.
    steps = served_checkpoints.c
    answers = sa.and_(steps.adapter == adapter, steps.state == RevisionState.READY)
    if tx.execute(sa.select(steps.job_id).where(answers).limit(1)).first() is not None:
        return False
    jobs = tables.jobs
    is_open = jobs.c.state.not_in(ENDED)
    for_it = jobs.c.spec["adapter"].as_string() == adapter
    return tx.execute(sa.select(jobs.c.id).where(is_open, for_it).limit(1)).first() is None


def put_owner(tx: sa.Connection, owner: AdapterOwner) -> None:
    """Store *owner* in place of any former one of the name."""
    upsert(tx, tables.adapter_owners, ("adapter",), _row(owner))


def _row(owner: AdapterOwner) -> dict[str, object]:
    return {
        "adapter": owner.adapter,
        "tenant": owner.tenant,
        "is_shared": owner.is_shared,
        "claimed_at": owner.claimed_at,
    }


def _local(adapter: str, at: float) -> AdapterOwner:
    return AdapterOwner(adapter=adapter, tenant=LOCAL_TENANT, is_shared=True, claimed_at=at)
