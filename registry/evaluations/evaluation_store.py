"""Evaluations in the database: callers and gates create them, the gateway that holds the lease moves them."""

from __future__ import annotations

import builtins
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from registry.audit import Act, write_audit
from registry.errors import Conflict, IllegalMove
from registry.evaluations.evaluation import LORRY, Evaluation, EvaluationAnswer, EvaluationDraft, EvaluationHold
from registry.evaluations.evaluation_rows import (
    EvaluationMove,
    answer_row,
    answers_of,
    draft_row,
    evaluation_of,
    find_evaluation,
    held_evaluation,
    move_evaluation,
)
from registry.evaluations.evaluation_state import ENDED, EvaluationState
from registry.evaluations.evaluation_tables import evaluation_answers, evaluations
from registry.transactions import Transactions, insert_or_ignore

MOST_OPEN: Final = 20
"""Evaluations of a tenant that may wait or run at a time."""
MOST_KEPT: Final = 500
"""Evaluations of a tenant that are kept with their answers; the oldest that have ended are removed first."""


class EvaluationStore:
    """Stores evaluations by id. Methods that take an `EvaluationHold` raise `LeaseLost` when it is not the latest."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions

    # called for callers

    def create(self, draft: EvaluationDraft) -> Evaluation:
        """Create an evaluation; `Conflict` if its tenant has too many that have not ended."""
        is_open = sa.and_(evaluations.c.tenant == draft.tenant, evaluations.c.state.not_in(ENDED))
        with self._tx.write() as tx:
            if tx.execute(sa.select(sa.func.count()).where(is_open)).scalar_one() >= MOST_OPEN:
                raise Conflict(f"{MOST_OPEN} evaluations have not ended; await or cancel one of them first")
            created = self._insert(tx, draft_row(draft, self._tx.now()))
            _forget_oldest(tx, draft.tenant)
            return created

    def create_for_rollout(self, draft: EvaluationDraft) -> Evaluation:
        """Return the evaluation of the draft's rollout and side, which is created unless it is there."""
        columns = evaluations.c
        query = sa.select(evaluations).where(columns.rollout_id == draft.rollout_id, columns.side == draft.side)
        with self._tx.write() as tx:
            if (row := tx.execute(query).mappings().one_or_none()) is not None:
                return evaluation_of(row)
            return self._insert(tx, draft_row(draft, self._tx.now()))

    def get(self, evaluation_id: str, tenant: str | None = None) -> Evaluation:
        """Return the evaluation with this id, of *tenant* if one is given. Raises `NotFound`."""
        with self._tx.read() as tx:
            return find_evaluation(tx, evaluation_id, tenant)

    def list(  # noqa: PLR0913  a filter for each column that people ask by
        self,
        *,
        served_name: str | None = None,
        adapter: str | None = None,
        suite_digest: str | None = None,
        state: EvaluationState | None = None,
        tenant: str | None = None,
        limit: int = 100,
    ) -> builtins.list[Evaluation]:
        """Return evaluations, newest first."""
        columns = evaluations.c
        filters = {
            columns.served_name: served_name,
            columns.model["adapter"].as_string(): adapter,
            columns.suite_digest: suite_digest,
            columns.state: state,
            columns.tenant: tenant,
        }
        query = sa.select(evaluations).order_by(columns.seq.desc()).limit(limit)
        for column, value in filters.items():
            if value is not None:
                query = query.where(column == value)
        with self._tx.read() as tx:
            return [evaluation_of(row) for row in tx.execute(query).mappings()]

    def of_model(self, served_name: str, digest: str) -> builtins.list[Evaluation]:
        """Return the completed evaluations of exactly these weights, newest first."""
        found = self.list(served_name=served_name, state=EvaluationState.COMPLETED, limit=MOST_KEPT)
        return [each for each in found if each.model.digest == digest]

    def of_rollout(self, rollout_id: str) -> Mapping[str, Evaluation]:
        """Return the evaluations of a rollout's gate by side."""
        query = sa.select(evaluations).where(evaluations.c.rollout_id == rollout_id)
        with self._tx.read() as tx:
            found = [evaluation_of(row) for row in tx.execute(query).mappings()]
        return {str(each.side): each for each in found}

    def answers(self, evaluation_id: str, after: int = 0, limit: int | None = None) -> builtins.list[EvaluationAnswer]:
        """Return the answers to the rows behind *after* in their order, of many the first *limit*."""
        with self._tx.read() as tx:
            return list(answers_of(tx, evaluation_id, after, limit))

    def cancel(self, evaluation_id: str, actor: str, tenant: str | None = None) -> Evaluation:
        """End the evaluation; its answers stay. `IllegalMove` once it has ended."""
        with self._tx.write() as tx:
            found = find_evaluation(tx, evaluation_id, tenant, lock=True)
            return move_evaluation(tx, found, EvaluationMove(to=EvaluationState.CANCELLED, actor=actor), self._tx.now())

    def resume(self, evaluation_id: str, by: tuple[str, str], tenant: str | None = None) -> Evaluation:
        """Queue a failed or cancelled evaluation again; rows that have an answer keep it. `IllegalMove`.

        *by* is who resumes it, and the id of the key whose rights its requests have from now on.
        """
        actor, key_id = by
        with self._tx.write() as tx:
            found, now = find_evaluation(tx, evaluation_id, tenant, lock=True), self._tx.now()
            if found.tool != LORRY:
                raise IllegalMove(f"{found.id} was run by {found.tool} on its caller's machine; run it again there")
            if found.rollout_id is not None:
                raise IllegalMove(f"{found.id} is the gate of rollout {found.rollout_id}; start another rollout")
            values = {"error": None, "finished_at": None, "expires_at": now + found.timeout_s, "key_id": key_id}
            return move_evaluation(
                tx, found, EvaluationMove(to=EvaluationState.QUEUED, actor=actor, values=values), now
            )

    def delete(self, evaluation_id: str, actor: str, tenant: str | None = None) -> None:
        """Remove an evaluation that has ended, with its answers. `IllegalMove` before, and for a rollout's gate."""
        with self._tx.write() as tx:
            found = find_evaluation(tx, evaluation_id, tenant, lock=True)
            if not found.state.has_ended:
                raise IllegalMove(f"{found.id} is {found.state}; cancel it first")
            if found.rollout_id is not None:
                raise IllegalMove(f"{found.id} is evidence of the rollout {found.rollout_id}, which keeps it")
            _remove(tx, [found.id])
            detail = {"model": found.model.served_name, "suite": found.suite_name}
            write_audit(
                tx, Act(actor=actor, action="evaluation.delete", subject=found.id, detail=detail), self._tx.now()
            )

    def counts(self) -> Mapping[EvaluationState, int]:
        """Return how many evaluations are in each state."""
        query = sa.select(evaluations.c.state, sa.func.count()).group_by(evaluations.c.state)
        with self._tx.read() as tx:
            found = {EvaluationState(state): count for state, count in tx.execute(query)}
        return {state: found.get(state, 0) for state in EvaluationState}

    # called by gateways

    def open(self) -> builtins.list[Evaluation]:
        """Return the evaluations that have not ended, oldest first."""
        query = sa.select(evaluations).where(evaluations.c.state.not_in(ENDED)).order_by(evaluations.c.seq)
        with self._tx.read() as tx:
            return [evaluation_of(row) for row in tx.execute(query).mappings()]

    def claim(self, seen: Evaluation, holder: str) -> EvaluationHold | None:
        """Take over the evaluation as it was *seen*; None if it was moved or renewed since."""
        columns = evaluations.c
        is_same = sa.and_(
            columns.id == seen.id,
            columns.attempt == seen.attempt,
            columns.beat == seen.beat,
            columns.state == seen.state,
            columns.state.not_in(ENDED),
        )
        now = self._tx.now()
        hold = EvaluationHold(evaluation_id=seen.id, attempt=seen.attempt + 1, holder=holder)
        values = {
            "attempt": hold.attempt,
            "holder": holder,
            "beat": seen.beat + 1,
            "state": EvaluationState.RUNNING,
            "started_at": seen.started_at or now,
        }
        with self._tx.write() as tx:
            if tx.execute(sa.update(evaluations).where(is_same).values(values)).rowcount != 1:
                return None
            detail = {"attempt": hold.attempt}
            write_audit(tx, Act(actor=holder, action="evaluation.claim", subject=seen.id, detail=detail), now)
        return hold

    def renew(self, hold: EvaluationHold, note: str = "") -> Evaluation:
        """Renew the lease, and return the evaluation as it is now; *note* is the reason why it does not go on."""
        with self._tx.write() as tx:
            found = held_evaluation(tx, hold)
            row = sa.update(evaluations).where(evaluations.c.id == found.id)
            tx.execute(row.values(beat=found.beat + 1, note=note))
            return find_evaluation(tx, found.id)

    def release(self, hold: EvaluationHold) -> None:
        """Give the evaluation back, so that another gateway takes it over at once."""
        columns = evaluations.c
        is_held = sa.and_(columns.id == hold.evaluation_id, columns.attempt == hold.attempt)
        with self._tx.write() as tx:
            tx.execute(sa.update(evaluations).where(is_held, columns.holder == hold.holder).values(holder=None))

    def record(self, hold: EvaluationHold, answers: Collection[EvaluationAnswer]) -> None:
        """Keep answers; a row that has one already keeps it."""
        with self._tx.write() as tx:
            found = held_evaluation(tx, hold)
            new = sum(insert_or_ignore(tx, evaluation_answers, answer_row(found.id, each)) for each in answers)
            row = sa.update(evaluations).where(evaluations.c.id == found.id)
            tx.execute(row.values(done=found.done + new))

    def complete(
        self, hold: EvaluationHold, scores: Mapping[str, Any], detail: Mapping[str, Any] | None = None
    ) -> Evaluation:
        """End the evaluation with its *scores*; `IllegalMove` while a row has no answer."""
        with self._tx.write() as tx:
            found = held_evaluation(tx, hold)
            if found.done < found.total:
                raise IllegalMove(f"{found.id} has answers to {found.done} of {found.total} rows")
            values: dict[str, Any] = {"scores": scores}
            if detail is not None:
                values["detail"] = {**found.detail, **detail}
            move = EvaluationMove(to=EvaluationState.COMPLETED, actor=hold.holder, values=values)
            return move_evaluation(tx, found, move, self._tx.now())

    def fail(self, hold: EvaluationHold, code: str, message: str) -> Evaluation:
        """End the evaluation without a score; its answers stay."""
        with self._tx.write() as tx:
            values = {"error": {"code": code, "message": message}}
            move = EvaluationMove(to=EvaluationState.FAILED, actor=hold.holder, values=values)
            return move_evaluation(tx, held_evaluation(tx, hold), move, self._tx.now())

    def set_rows(self, hold: EvaluationHold, total: int, suite_digest: str) -> None:
        """Set the number of rows and their digest, which an outside tool has only at its end."""
        with self._tx.write() as tx:
            found = held_evaluation(tx, hold)
            tx.execute(
                sa.update(evaluations)
                .where(evaluations.c.id == found.id)
                .values(total=total, suite_digest=suite_digest)
            )

    def expire(self) -> builtins.list[Evaluation]:
        """Fail the evaluations whose time is over, whoever runs them, and return them."""
        now = self._tx.now()
        query = sa.select(evaluations).where(evaluations.c.state.not_in(ENDED), evaluations.c.expires_at <= now)
        with self._tx.read() as tx:
            if tx.execute(query).first() is None:
                return []
        ended = []
        with self._tx.write() as tx:
            for row in tx.execute(query.with_for_update()).mappings().all():
                seen = evaluation_of(row)
                message = f"{seen.done} of {seen.total} rows were answered within {seen.timeout_s:g} s"
                values = {"error": {"code": "timed_out", "message": message}}
                move = EvaluationMove(to=EvaluationState.FAILED, actor="controller", values=values)
                ended.append(move_evaluation(tx, seen, move, now))
        return ended

    def _insert(self, tx: sa.Connection, row: Mapping[str, Any]) -> Evaluation:
        tx.execute(sa.insert(evaluations).values(row))
        detail = {"model": row["served_name"], "suite": row["suite_name"], "rollout": row["rollout_id"]}
        act = Act(actor=row["owner"], action="evaluation.create", subject=row["id"], detail=detail)
        write_audit(tx, act, row["created_at"])
        return find_evaluation(tx, row["id"])


def _forget_oldest(tx: sa.Connection, tenant: str) -> None:
    """Remove the oldest evaluations of *tenant* beyond `MOST_KEPT`, except for evidence of rollouts."""
    columns = evaluations.c
    query = sa.select(columns.id).where(
        columns.tenant == tenant, columns.state.in_(ENDED), columns.rollout_id.is_(None)
    )
    if beyond := tx.execute(query.order_by(columns.seq.desc()).offset(MOST_KEPT)).scalars().all():
        _remove(tx, beyond)


def _remove(tx: sa.Connection, ids: Sequence[str]) -> None:
    tx.execute(sa.delete(evaluation_answers).where(evaluation_answers.c.evaluation_id.in_(ids)))
    tx.execute(sa.delete(evaluations).where(evaluations.c.id.in_(ids)))
