"""Reading and writing rollouts inside a transaction, for `rollout_store`, `publishing` and snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from secrets import token_hex
from typing import Any, Final

import sqlalchemy as sa

from registry import tables
from registry.audit import Act, write_audit
from registry.errors import NotFound, NotServable, RolloutOpen
from registry.rollouts.rollout import Rollout, RolloutEvent, RolloutPlan, plan_as_json, plan_from
from registry.rollouts.rollout_state import RolloutState
from registry.states import AdapterKind, RevisionState
from registry.types import Adapter, Revision

PLAN_COLUMNS: Final = ("steps", "every_s", "guardrails", "shadow_judge", "gate")


def rollout_of(row: sa.RowMapping) -> Rollout:
    """Return a row of `rollouts` as a value."""
    fields = {name: value for name, value in row.items() if name not in ("seq", *PLAN_COLUMNS)}
    return Rollout(**(fields | {"plan": plan_from(dict(row)), "state": RolloutState(row["state"])}))


def event_of(row: Mapping[str, Any]) -> RolloutEvent:
    """Return a row of `rollout_events` as a value."""
    return RolloutEvent(**(dict(row) | {"state": RolloutState(row["state"])}))


def find_rollout(tx: sa.Connection, rollout_id: str) -> Rollout:
    """Return the rollout with this id. Raises `NotFound`."""
    row = tx.execute(sa.select(tables.rollouts).where(tables.rollouts.c.id == rollout_id)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no rollout {rollout_id!r}")
    return rollout_of(row)


def find_open_rollout(tx: sa.Connection, adapter: str) -> Rollout | None:
    """Return the open rollout of *adapter*, or None."""
    query = sa.select(tables.rollouts).where(tables.rollouts.c.adapter == adapter, sa.text(tables.OPEN_ROLLOUT))
    row = tx.execute(query).mappings().one_or_none()
    return None if row is None else rollout_of(row)


def open_rollouts(tx: sa.Connection) -> tuple[Rollout, ...]:
    """Return the open rollouts, oldest first."""
    opened = sa.select(tables.rollouts).where(sa.text(tables.OPEN_ROLLOUT)).order_by(tables.rollouts.c.seq)
    return tuple(rollout_of(row) for row in tx.execute(opened).mappings())


def promoted_since(tx: sa.Connection, at: float) -> list[Rollout]:
    """Return for each adapter the last rollout promoted after *at* whose canary is still the stable."""
    stable = sa.and_(
        tables.adapters.c.name == tables.rollouts.c.adapter, tables.adapters.c.stable == tables.rollouts.c.canary
    )
    query = sa.select(tables.rollouts).join(tables.adapters, stable).order_by(tables.rollouts.c.seq)
    promoted = sa.and_(tables.rollouts.c.state == RolloutState.PROMOTED, tables.rollouts.c.finished_at > at)
    found = [rollout_of(row) for row in tx.execute(query.where(promoted)).mappings()]
    # The rows come in the order of entry, so the last rollout of an adapter replaces the earlier ones.
    return list({rollout.adapter: rollout for rollout in found}.values())


def revocable(tx: sa.Connection, promoted: Rollout) -> bool:
    """Return whether a verdict may still take *promoted* back: judged, with a predecessor, and not taken back yet.

    The way back is tried once whatever its outcome, so that an adapter never oscillates by itself.
    """
    if promoted.plan.guardrails is None or promoted.stable is None:
        return False
    ours = tables.rollouts.alias("ours")
    began_back = sa.select(tables.rollouts.c.id).where(
        tables.rollouts.c.adapter == promoted.adapter,
        tables.rollouts.c.canary == promoted.stable,
        tables.rollouts.c.seq > sa.select(ours.c.seq).where(ours.c.id == promoted.id).scalar_subquery(),
    )
    return tx.execute(began_back).first() is None


def check_startable(tx: sa.Connection, adapter: Adapter, revision: Revision) -> None:
    """Raise `NotServable` or `RolloutOpen` unless *revision* can be rolled out; the caller has locked *adapter*."""
    if revision.state is not RevisionState.READY:
        raise NotServable(f"{revision.served_name} is {revision.state}, it cannot be rolled out")
    if adapter.kind is not AdapterKind.CHAT:
        raise NotServable(f"{revision.served_name} is a {adapter.kind} model, which takes no traffic")
    if adapter.stable == revision.number:
        raise NotServable(f"{revision.served_name} is the stable revision already")
    other = find_open_rollout(tx, adapter.name)
    if other is not None:
        raise RolloutOpen(
            f"adapter {adapter.name!r} has the open rollout {other.id} of {adapter.name}@{other.canary}, "
            f"which is {other.state}; promote or abort it first"
        )


def draft_rollout(adapter: Adapter, canary: int, plan: RolloutPlan, *, actor: str, at: float) -> Rollout:
    """Return a pending rollout with a new id, not stored yet."""
    return Rollout(
        id=f"ro-{token_hex(6)}",
        adapter=adapter.name,
        canary=canary,
        stable=adapter.stable,
        plan=plan,
        step=0,
        state=RolloutState.PENDING,
        reason="requested",
        message="",
        actor=actor,
        created_at=at,
        step_since=at,
        finished_at=None,
    )


def insert_rollout(tx: sa.Connection, rollout: Rollout) -> None:
    """Store a new rollout with its first event and its audit entry."""
    plan = plan_as_json(rollout.plan)
    columns = [column.name for column in tables.rollouts.columns if column.name not in ("seq", *plan)]
    tx.execute(sa.insert(tables.rollouts).values({name: getattr(rollout, name) for name in columns} | plan))
    add_event(tx, rollout, rollout.created_at)
    audit_rollout(tx, rollout, "rollout.start", rollout.created_at)


def add_event(tx: sa.Connection, rollout: Rollout, at: float) -> None:
    """Record an event with the present state of *rollout* and its latest evidence."""
    event = {
        "rollout_id": rollout.id,
        "state": rollout.state,
        "step": rollout.step,
        "reason": rollout.reason,
        "message": rollout.message,
        "actor": rollout.actor,
        "at": at,
        "evidence": rollout.evidence,
    }
    tx.execute(sa.insert(tables.rollout_events).values(event))


def audit_rollout(tx: sa.Connection, rollout: Rollout, action: str, at: float) -> None:
    """Record who did what to *rollout*."""
    subject = f"{rollout.adapter}@{rollout.canary}"
    detail = {"rollout": rollout.id, "step": rollout.step, "reason": rollout.reason, "message": rollout.message}
    write_audit(tx, Act(actor=rollout.actor, action=action, subject=subject, detail=detail), at)
