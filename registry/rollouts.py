"""Rollouts in the database: one open per adapter, every move compare-and-set with its event."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import replace
from secrets import token_hex
from typing import Any

import sqlalchemy as sa

from registry import tables
from registry.adapters import find_adapter, find_revision
from registry.audit import Act, write_audit
from registry.errors import Conflict, IllegalMove, NotFound, NotServable, RolloutOpen, StaleState
from registry.rollout import Rollout, RolloutEvent, RolloutPlan, RolloutState, check_move
from registry.transactions import Transactions
from registry.types import Adapter, Revision, RevisionState


def rollout_of(row: sa.RowMapping) -> Rollout:
    """A row of `rollouts` as a value."""
    fields = {name: value for name, value in row.items() if name not in ("seq", "steps", "every_s")}
    plan = RolloutPlan(steps=tuple(row["steps"]), every_s=row["every_s"])
    return Rollout(**(fields | {"plan": plan, "state": RolloutState(row["state"])}))


def find_open_rollout(tx: sa.Connection, adapter: str) -> Rollout | None:
    """The rollout of *adapter* that has not ended, if there is one."""
    query = sa.select(tables.rollouts).where(tables.rollouts.c.adapter == adapter, sa.text(tables.OPEN_ROLLOUT))
    row = tx.execute(query).mappings().one_or_none()
    return None if row is None else rollout_of(row)


def promoted_since(tx: sa.Connection, at: float) -> list[Rollout]:
    """For each adapter the last rollout promoted after *at*, if its canary is the stable still."""
    stable = sa.and_(
        tables.adapters.c.name == tables.rollouts.c.adapter, tables.adapters.c.stable == tables.rollouts.c.canary
    )
    query = sa.select(tables.rollouts).join(tables.adapters, stable).order_by(tables.rollouts.c.seq)
    promoted = sa.and_(tables.rollouts.c.state == RolloutState.PROMOTED, tables.rollouts.c.finished_at > at)
    found = [rollout_of(row) for row in tx.execute(query.where(promoted)).mappings()]
    return list({rollout.adapter: rollout for rollout in found}.values())


def check_startable(tx: sa.Connection, adapter: Adapter, revision: Revision) -> None:
    """Raise what speaks against rolling out *revision*; the caller holds the lock of *adapter*."""
    if revision.state is not RevisionState.READY:
        raise NotServable(f"{revision.served_name} is {revision.state}, it cannot be rolled out")
    if adapter.stable == revision.number:
        raise NotServable(f"{revision.served_name} is the stable revision already")
    other = find_open_rollout(tx, adapter.name)
    if other is not None:
        raise RolloutOpen(
            f"adapter {adapter.name!r} has the open rollout {other.id} of {adapter.name}@{other.canary}, "
            f"which is {other.state}; promote or abort it first"
        )


def draft_rollout(adapter: Adapter, canary: int, plan: RolloutPlan, *, actor: str, at: float) -> Rollout:
    """A pending rollout with a new id, not stored yet."""
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
    plan = {"steps": list(rollout.plan.steps), "every_s": rollout.plan.every_s}
    columns = [column.name for column in tables.rollouts.columns if column.name not in ("seq", *plan)]
    tx.execute(sa.insert(tables.rollouts).values({name: getattr(rollout, name) for name in columns} | plan))
    _add_event(tx, rollout, rollout.created_at)
    _audit(tx, rollout, "rollout.start", rollout.created_at)


class RolloutStore:
    """Attempts to make a revision stable."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions

    def start(self, adapter: str, revision: int, plan: RolloutPlan, actor: str, reason: str = "requested") -> Rollout:
        """A pending rollout of *revision*. Raises `NotFound`, `RolloutOpen`, or `NotServable` if retired or stable."""
        try:
            with self._tx.write() as tx:
                series = find_adapter(tx, adapter, lock=True)
                check_startable(tx, series, find_revision(tx, adapter, revision))
                drafted = draft_rollout(series, revision, plan, actor=actor, at=self._tx.now())
                rollout = replace(drafted, reason=reason)
                insert_rollout(tx, rollout)
                return rollout
        except Conflict as exc:
            raise RolloutOpen(f"adapter {adapter!r} has an open rollout; promote or abort it first") from exc

    def get(self, rollout_id: str) -> Rollout:
        """The rollout with this id, else `NotFound`."""
        with self._tx.read() as tx:
            return _find(tx, rollout_id)

    def open_for(self, adapter: str) -> Rollout | None:
        """The rollout of *adapter* that has not ended, if there is one."""
        with self._tx.read() as tx:
            return find_open_rollout(tx, adapter)

    def events(self, rollout_id: str) -> builtins.list[RolloutEvent]:
        """Every recorded move, oldest first; `NotFound` if there is no such rollout."""
        query = sa.select(tables.rollout_events).where(tables.rollout_events.c.rollout_id == rollout_id)
        with self._tx.read() as tx:
            _find(tx, rollout_id)
            rows = tx.execute(query.order_by(tables.rollout_events.c.seq)).mappings()
            return [_event_of(row) for row in rows]

    def list(self, adapter: str | None = None, limit: int = 100) -> builtins.list[Rollout]:
        """Newest first."""
        query = sa.select(tables.rollouts).order_by(tables.rollouts.c.seq.desc()).limit(limit)
        if adapter is not None:
            query = query.where(tables.rollouts.c.adapter == adapter)
        with self._tx.read() as tx:
            return [rollout_of(row) for row in tx.execute(query).mappings()]

    def move(  # noqa: PLR0913  a move is exactly these facts
        self,
        rollout_id: str,
        current: RolloutState,
        to: RolloutState,
        *,
        reason: str,
        message: str = "",
        actor: str = "controller",
    ) -> Rollout:
        """Move and record it in one transaction; promoting makes the canary stable in the same one.

        Raises `IllegalMove`, `NotFound`, or `StaleState` if it is no longer *current*.
        """
        check_move(current, to)
        with self._tx.write() as tx:
            now = self._tx.now()
            before = _find(tx, rollout_id)
            find_adapter(tx, before.adapter, lock=True)
            values: dict[str, Any] = {"state": to, "reason": reason, "message": message, "actor": actor}
            if to.is_terminal:
                values["finished_at"] = now
            if to is RolloutState.PROGRESSING:
                values["step_since"] = now
            self._compare_and_set(tx, rollout_id, tables.rollouts.c.state == current, values)
            if to is RolloutState.PROMOTED:
                _make_stable(tx, before, now)
            return self._record(tx, rollout_id, f"rollout.{to}", now)

    def advance(self, rollout_id: str, step: int, *, reason: str, actor: str) -> Rollout:
        """From *step* of the plan to the next.

        Raises `NotFound`, `IllegalMove` if *step* is the last, `StaleState` unless it is progressing at *step*.
        """
        with self._tx.write() as tx:
            now = self._tx.now()
            before = _find(tx, rollout_id)
            find_adapter(tx, before.adapter, lock=True)
            if step + 1 >= len(before.plan.steps):
                raise IllegalMove(f"rollout {rollout_id} has no step after {step}; promote it")
            values = {"step": step + 1, "step_since": now, "reason": reason, "message": "", "actor": actor}
            unmoved = sa.and_(tables.rollouts.c.step == step, tables.rollouts.c.state == RolloutState.PROGRESSING)
            self._compare_and_set(tx, rollout_id, unmoved, values)
            return self._record(tx, rollout_id, "rollout.advance", now)

    def _compare_and_set(
        self, tx: sa.Connection, rollout_id: str, unmoved: sa.ColumnElement[bool], values: Mapping[str, Any]
    ) -> None:
        update = sa.update(tables.rollouts).where(tables.rollouts.c.id == rollout_id, unmoved)
        if tx.execute(update.values(**values)).rowcount != 1:
            now_is = _find(tx, rollout_id)
            raise StaleState(f"rollout {rollout_id} was moved meanwhile: it is {now_is.state} at step {now_is.step}")

    def _record(self, tx: sa.Connection, rollout_id: str, action: str, at: float) -> Rollout:
        after = _find(tx, rollout_id)
        _add_event(tx, after, at)
        _audit(tx, after, action, at)
        return after


def _find(tx: sa.Connection, rollout_id: str) -> Rollout:
    row = tx.execute(sa.select(tables.rollouts).where(tables.rollouts.c.id == rollout_id)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no rollout {rollout_id!r}")
    return rollout_of(row)


def _make_stable(tx: sa.Connection, rollout: Rollout, now: float) -> None:
    values = {"stable": rollout.canary, "previous_stable": tables.adapters.c.stable, "stable_since": now}
    tx.execute(sa.update(tables.adapters).where(tables.adapters.c.name == rollout.adapter).values(values))


def _add_event(tx: sa.Connection, rollout: Rollout, at: float) -> None:
    event = {
        "rollout_id": rollout.id,
        "state": rollout.state,
        "step": rollout.step,
        "reason": rollout.reason,
        "message": rollout.message,
        "actor": rollout.actor,
        "at": at,
    }
    tx.execute(sa.insert(tables.rollout_events).values(event))


def _audit(tx: sa.Connection, rollout: Rollout, action: str, at: float) -> None:
    subject = f"{rollout.adapter}@{rollout.canary}"
    detail = {"rollout": rollout.id, "step": rollout.step, "reason": rollout.reason, "message": rollout.message}
    write_audit(tx, Act(actor=rollout.actor, action=action, subject=subject, detail=detail), at)


def _event_of(row: sa.RowMapping) -> RolloutEvent:
    fields = {name: value for name, value in row.items() if name != "seq"}
    return RolloutEvent(**(fields | {"state": RolloutState(row["state"])}))
