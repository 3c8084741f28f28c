"""Rows of evaluations as values, and their moves, inside of a transaction that the caller has begun."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from secrets import token_hex
from typing import Any, Final

import sqlalchemy as sa

from registry.audit import Act, write_audit
from registry.errors import LeaseLost, NotFound, StaleState
from registry.evaluations.evaluation import Evaluation, EvaluationAnswer, EvaluationDraft, EvaluationHold, PinnedModel
from registry.evaluations.evaluation_state import ENDED, EvaluationState, check_move
from registry.evaluations.evaluation_tables import evaluation_answers, evaluations

LONGEST_ANSWER: Final = 65_536
"""Characters of an answer, prompt or target that are kept."""
_LONGEST_WHY: Final = 2_000


def draft_row(draft: EvaluationDraft, at: float) -> dict[str, Any]:
    """Return the row of a new evaluation."""
    fields = {name: getattr(draft, name) for name in draft.__dataclass_fields__}
    return fields | {
        "id": f"eval_{token_hex(12)}",
        "state": EvaluationState.QUEUED,
        "served_name": draft.model.served_name,
        "model": draft.model.as_json(),
        "judges": {name: judge.as_json() for name, judge in draft.judges.items()},
        "detail": dict(draft.detail),
        "note": "",
        "created_at": at,
        "expires_at": at + draft.timeout_s,
        **dict.fromkeys(("done", "attempt", "beat"), 0),
    }


def evaluation_of(row: sa.RowMapping) -> Evaluation:
    """Return a row of `evaluations` as a value."""
    fields: dict[str, Any] = {name: value for name, value in row.items() if name not in ("seq", "served_name")}
    fields |= {
        "state": EvaluationState(row["state"]),
        "model": PinnedModel(**row["model"]),
        "judges": {name: PinnedModel(**judge) for name, judge in row["judges"].items()},
    }
    return Evaluation(**fields)


def find_evaluation(
    tx: sa.Connection, evaluation_id: str, tenant: str | None = None, *, lock: bool = False
) -> Evaluation:
    """Return the evaluation, of *tenant* if one is given. Raises `NotFound`."""
    query = sa.select(evaluations).where(evaluations.c.id == evaluation_id)
    row = tx.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    if row is None or tenant not in (None, row["tenant"]):
        raise NotFound(f"there is no evaluation {evaluation_id!r}")
    return evaluation_of(row)


def held_evaluation(tx: sa.Connection, hold: EvaluationHold) -> Evaluation:
    """Return the evaluation, locked; `LeaseLost` unless *hold* is its latest and it has not ended."""
    found = find_evaluation(tx, hold.evaluation_id, lock=True)
    if found.attempt != hold.attempt or found.holder != hold.holder or found.state.has_ended:
        raise LeaseLost(f"evaluation {found.id} is {found.state}, held by {found.holder or 'nobody'} now")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationMove:
    """A move of an evaluation into a state."""

    to: EvaluationState
    actor: str
    values: Mapping[str, Any] = field(default_factory=dict)
    """Columns that change with it."""


def move_evaluation(tx: sa.Connection, seen: Evaluation, move: EvaluationMove, at: float) -> Evaluation:
    """Move the evaluation from the state that the caller saw, and record it; `StaleState` if another was quicker."""
    check_move(seen.state, move.to)
    columns = evaluations.c
    is_same = sa.and_(columns.id == seen.id, columns.state == seen.state, columns.attempt == seen.attempt)
    fields: dict[str, Any] = {"state": move.to, "note": "", **move.values}
    if move.to in ENDED:
        fields |= {"holder": None, "finished_at": at}
    if tx.execute(sa.update(evaluations).where(is_same).values(fields)).rowcount != 1:
        raise StaleState(f"evaluation {seen.id} is no longer {seen.state}")
    moved = find_evaluation(tx, seen.id)
    detail = {"model": moved.model.served_name, "suite": moved.suite_name, "done": moved.done, "total": moved.total}
    write_audit(tx, Act(actor=move.actor, action=f"evaluation.{move.to}", subject=seen.id, detail=detail), at)
    return moved


def answer_row(evaluation_id: str, answer: EvaluationAnswer) -> dict[str, Any]:
    """Return the row of an answer, whose long texts are cut."""
    fields = asdict(answer) | {"evaluation_id": evaluation_id, "tags": list(answer.tags)}
    cut = {name: _storable(fields[name])[:LONGEST_ANSWER] for name in ("answer", "prompt", "target")}
    names = {"row_id": _storable(answer.row_id), "tags": [_storable(tag) for tag in answer.tags]}
    return fields | cut | names | {"why": _storable(answer.why)[:_LONGEST_WHY]}


def answer_of(row: sa.RowMapping) -> EvaluationAnswer:
    """Return a row of `evaluation_answers` as a value."""
    return EvaluationAnswer(**{name: value for name, value in row.items() if name != "evaluation_id"})


def answers_of(
    tx: sa.Connection, evaluation_id: str, after: int = 0, limit: int | None = None
) -> Sequence[EvaluationAnswer]:
    """Return the answers to the rows behind *after* in their order, of many the first *limit*."""
    columns = evaluation_answers.c
    query = sa.select(evaluation_answers).where(columns.evaluation_id == evaluation_id, columns.row > after)
    return [answer_of(row) for row in tx.execute(query.order_by(columns.row).limit(limit)).mappings()]


def cancel_gate(tx: sa.Connection, rollout_id: str, actor: str, at: float) -> None:
    """End the evaluations of a rollout's gate that go on, as the rollout no longer waits for them."""
    of_gate = sa.select(evaluations).where(evaluations.c.rollout_id == rollout_id, evaluations.c.state.not_in(ENDED))
    for row in tx.execute(of_gate.with_for_update()).mappings().all():
        move = EvaluationMove(to=EvaluationState.CANCELLED, actor=actor)
        move_evaluation(tx, evaluation_of(row), move, at)


def _storable(text: str) -> str:
    """Return *text* as PostgreSQL stores it: without NUL, and without halves of surrogate pairs."""
    return text.replace("\0", "�").encode("utf-8", "replace").decode()
