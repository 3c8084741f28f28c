"""Rollouts in the database: at most one open for each adapter, every move compare-and-set with its event."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from registry import tables
from registry.adapters import find_adapter, find_revision
from registry.errors import Conflict, IllegalMove, RolloutOpen, StaleState
from registry.evaluations.evaluation_rows import cancel_gate
from registry.rollouts.rollout import Rollout, RolloutEvent, RolloutFigures, RolloutPlan, weighted
from registry.rollouts.rollout_moves import (
    add_event,
    audit_rollout,
    check_startable,
    draft_rollout,
    event_of,
    find_open_rollout,
    find_rollout,
    insert_rollout,
    promoted_since,
    revocable,
    rollout_of,
)
from registry.rollouts.rollout_state import RolloutState, check_move
from registry.transactions import Transactions


class RolloutStore:
    """Stores rollouts and moves them."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions

    def start(self, adapter: str, revision: int, plan: RolloutPlan, actor: str, reason: str = "requested") -> Rollout:
        """Begin a pending rollout of *revision*. Raises `NotFound`, `RolloutOpen` or `NotServable`."""
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
        """Return the rollout with this id. Raises `NotFound`."""
        with self._tx.read() as tx:
            return find_rollout(tx, rollout_id)

    def open_for(self, adapter: str) -> Rollout | None:
        """Return the open rollout of *adapter*, or None."""
        with self._tx.read() as tx:
            return find_open_rollout(tx, adapter)

    def events(self, rollout_id: str) -> builtins.list[RolloutEvent]:
        """Return every recorded move of the rollout, oldest first. Raises `NotFound`."""
        query = sa.select(tables.rollout_events).where(tables.rollout_events.c.rollout_id == rollout_id)
        with self._tx.read() as tx:
            find_rollout(tx, rollout_id)
            rows = tx.execute(query.order_by(tables.rollout_events.c.seq)).mappings()
            return [event_of(dict(row)) for row in rows]

    def list(self, adapter: str | None = None, limit: int = 100) -> builtins.list[Rollout]:
        """Return rollouts of all adapters, or of *adapter*, newest first. Raises `NotFound`."""
        query = sa.select(tables.rollouts).order_by(tables.rollouts.c.seq.desc()).limit(limit)
        if adapter is not None:
            query = query.where(tables.rollouts.c.adapter == adapter)
        with self._tx.read() as tx:
            if adapter is not None:
                find_adapter(tx, adapter)
            return [rollout_of(row) for row in tx.execute(query).mappings()]

    def figures(self) -> RolloutFigures:
        """Return the counts of all moves and the latest rollout of each adapter."""
        rollouts, events = tables.rollouts, tables.rollout_events
        labels = rollouts.c.adapter, events.c.state, events.c.reason
        moves = sa.select(*labels, sa.func.count()).join_from(events, rollouts, events.c.rollout_id == rollouts.c.id)
        last = sa.select(sa.func.max(rollouts.c.seq)).group_by(rollouts.c.adapter)
        latest = sa.select(rollouts).where(rollouts.c.seq.in_(last)).order_by(rollouts.c.adapter)
        with self._tx.read() as tx:
            return RolloutFigures(
                moves={(row[0], row[1], row[2]): row[3] for row in tx.execute(moves.group_by(*labels))},
                latest=tuple(rollout_of(row) for row in tx.execute(latest).mappings()),
            )

    def has_gated(self, adapter: str) -> bool:
        """Return whether a rollout of *adapter* ever had a gate: then nothing becomes stable without one."""
        table = tables.rollouts.c
        gated = sa.select(table.id).where(table.adapter == adapter, table.gate.is_not(None)).limit(1)
        with self._tx.read() as tx:
            return tx.execute(gated).first() is not None

    def move(  # noqa: PLR0913  a move is exactly these facts
        self,
        rollout_id: str,
        current: RolloutState,
        to: RolloutState,
        *,
        reason: str,
        message: str = "",
        actor: str = "controller",
        evidence: Mapping[str, Any] | None = None,
    ) -> Rollout:
        """Move the rollout and record its event in one transaction, which also makes a promoted canary stable.

        Raises `IllegalMove`, `NotFound`, or `StaleState` if the rollout is no longer *current*.
        """
        check_move(current, to)
        with self._tx.write() as tx:
            now = self._tx.now()
            before = find_rollout(tx, rollout_id)
            # The adapter's row is the lock of its rollouts: starts, moves and publications come one after the other.
            find_adapter(tx, before.adapter, lock=True)
            values: dict[str, Any] = {"state": to, "reason": reason, "message": message, "actor": actor}
            if to.is_terminal:
                values["finished_at"] = now
            if to is RolloutState.PROGRESSING:
                values["step_since"] = now
            self._compare_and_set(tx, rollout_id, tables.rollouts.c.state == current, values | _judged(evidence, now))
            if current is RolloutState.PENDING:
                cancel_gate(tx, rollout_id, actor, now)
            if to is RolloutState.PROMOTED:
                _make_stable(tx, before, now)
            return self._record(tx, rollout_id, f"rollout.{to}")

    def advance(  # noqa: PLR0913  a move is exactly these facts
        self,
        rollout_id: str,
        step: int,
        current: RolloutState = RolloutState.PROGRESSING,
        *,
        reason: str,
        actor: str,
        message: str = "",
        evidence: Mapping[str, Any] | None = None,
    ) -> Rollout:
        """Move the rollout from *step* of its plan to the next; one that is paused progresses again.

        Raises `NotFound`, `IllegalMove` if *step* is the last, `StaleState` unless the rollout is *current* at *step*.
        """
        if current is not RolloutState.PROGRESSING:
            check_move(current, RolloutState.PROGRESSING)
        with self._tx.write() as tx:
            now = self._tx.now()
            before = find_rollout(tx, rollout_id)
            find_adapter(tx, before.adapter, lock=True)
            if step + 1 >= len(before.plan.steps):
                raise IllegalMove(f"rollout {rollout_id} has no step after {step}; promote it")
            values: dict[str, Any] = {"state": RolloutState.PROGRESSING, "step": step + 1, "step_since": now}
            values |= {"reason": reason, "message": message, "actor": actor}
            unmoved = sa.and_(tables.rollouts.c.step == step, tables.rollouts.c.state == current)
            self._compare_and_set(tx, rollout_id, unmoved, values | _judged(evidence, now))
            return self._record(tx, rollout_id, "rollout.advance")

    def record_verdict(self, seen: Rollout, evidence: Mapping[str, Any]) -> bool:
        """Store a verdict that does not move the rollout; return False if it was moved or judged since *seen*."""
        columns = tables.rollouts.c
        unmoved = sa.and_(
            columns.id == seen.id,
            columns.state == seen.state,
            columns.step == seen.step,
            # Before the first verdict the column is NULL, which `=` matches with nothing.
            columns.judged_at.is_not_distinct_from(seen.judged_at),
        )
        with self._tx.write() as tx:
            values = _judged(evidence, self._tx.now())
            return tx.execute(sa.update(tables.rollouts).where(unmoved).values(**values)).rowcount == 1

    def revocable(self, since: float) -> builtins.list[Rollout]:
        """Return the rollouts promoted after *since* that a verdict may still take back."""
        with self._tx.read() as tx:
            return [rollout for rollout in promoted_since(tx, since) if revocable(tx, rollout)]

    def take_back(self, promoted: Rollout, *, reason: str, message: str, evidence: Mapping[str, Any]) -> Rollout:
        """Begin an unjudged rollout back to the revision that *promoted* replaced.

        Raises `StaleState` unless *promoted* is still `revocable`, or `RolloutOpen`.
        """
        with self._tx.write() as tx:
            adapter = find_adapter(tx, promoted.adapter, lock=True)
            # Looked up again under the lock: another rollout may have been promoted since the verdict.
            latest = {rollout.id for rollout in promoted_since(tx, 0.0)}
            if promoted.stable is None or promoted.id not in latest or not revocable(tx, promoted):
                raise StaleState(f"rollout {promoted.id} can no longer be taken back for {promoted.adapter}")
            check_startable(tx, adapter, find_revision(tx, promoted.adapter, promoted.stable))
            plan = RolloutPlan(steps=weighted(100))
            drafted = draft_rollout(adapter, promoted.stable, plan, actor="controller", at=self._tx.now())
            rollout = replace(drafted, reason=reason, message=message, evidence=evidence)
            insert_rollout(tx, rollout)
            return rollout

    def _compare_and_set(
        self, tx: sa.Connection, rollout_id: str, unmoved: sa.ColumnElement[bool], values: Mapping[str, Any]
    ) -> None:
        # Of two callers who saw the same state only one finds it here; the other one gets `StaleState`.
        update = sa.update(tables.rollouts).where(tables.rollouts.c.id == rollout_id, unmoved)
        if tx.execute(update.values(**values)).rowcount != 1:
            now_is = find_rollout(tx, rollout_id)
            raise StaleState(f"rollout {rollout_id} was moved meanwhile: it is {now_is.state} at step {now_is.step}")

    def _record(self, tx: sa.Connection, rollout_id: str, action: str) -> Rollout:
        after = find_rollout(tx, rollout_id)
        at = self._tx.now()
        add_event(tx, after, at)
        audit_rollout(tx, after, action, at)
        return after


def _judged(evidence: Mapping[str, Any] | None, now: float) -> dict[str, Any]:
    """Return the columns that change with a verdict."""
    if evidence is None:
        return {}
    values: dict[str, Any] = {"evidence": evidence, "judged_at": now}
    # Later verdicts are the judge's; that of the gate stays beside them.
    return values | ({"gate_result": evidence["gate"]} if "gate" in evidence else {})


def _make_stable(tx: sa.Connection, rollout: Rollout, now: float) -> None:
    # An UPDATE computes all values from the row before it: `previous_stable` gets the old `stable`.
    values = {"stable": rollout.canary, "previous_stable": tables.adapters.c.stable, "stable_since": now}
    tx.execute(sa.update(tables.adapters).where(tables.adapters.c.name == rollout.adapter).values(values))
