"""Ratings of answers by people: which answers may be rated, and the ratings joined to the revision that answered."""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final

import sqlalchemy as sa

from registry.adapters import find_adapter
from registry.errors import NotFound
from registry.rollouts import answer_tables
from registry.rollouts.tally import Cell, Side, Tally
from registry.transactions import Transactions, upsert

_CELL: Final = ("rollout_id", "step", "side", "replica")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredCompletion:
    """An answer during a watched rollout, identified by the `id` in its body."""

    id: str
    served_name: str
    cell: Cell
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """A rating of one answer."""

    completion_id: str
    served_name: str
    """The revision that answered."""
    cell: Cell
    score: float
    """0 is bad, 1 is good."""
    comment: str
    at: float


class FeedbackStore:
    """Stores one rating for each completion; a later one replaces it."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions

    def rate(self, completion_id: str, score: float, comment: str) -> Feedback:
        """Store a rating in place of an earlier one. `NotFound` if the completion may not, or no longer, be rated."""
        query = sa.select(answer_tables.completions).where(answer_tables.completions.c.id == completion_id)
        with self._tx.write() as tx:
            row = tx.execute(query).mappings().one_or_none()
            if row is None:
                raise NotFound(
                    f"there is no completion {completion_id!r} to rate: only answers to an adapter's name during a "
                    f"rollout or its rollback window are kept, and for a limited time"
                )
            rated = Feedback(
                completion_id=completion_id,
                served_name=row["served_name"],
                cell=_cell_of(row),
                score=score,
                comment=comment,
                at=self._tx.now(),
            )
            values = {name: value for name, value in asdict(rated).items() if name != "cell"}
            values |= asdict(rated.cell) | {"adapter": rated.served_name.rpartition("@")[0]}
            upsert(tx, answer_tables.feedback, ("completion_id",), values)
            return rated

    def list(self, adapter: str, limit: int = 100) -> builtins.list[Feedback]:
        """Return the ratings in all rollouts of *adapter*, newest first. Raises `NotFound`."""
        table = answer_tables.feedback
        query = sa.select(table).where(table.c.adapter == adapter).order_by(table.c.at.desc(), table.c.seq.desc())
        with self._tx.read() as tx:
            find_adapter(tx, adapter)
            return [
                Feedback(
                    completion_id=row["completion_id"],
                    served_name=row["served_name"],
                    cell=_cell_of(row),
                    score=row["score"],
                    comment=row["comment"],
                    at=row["at"],
                )
                for row in tx.execute(query.limit(limit)).mappings()
            ]

    def expire(self, older_than_s: float) -> int:
        """Delete completions older than *older_than_s*, so that they can no longer be rated; return how many."""
        with self._tx.write() as tx:
            old = answer_tables.completions.c.at < self._tx.now() - older_than_s
            return tx.execute(sa.delete(answer_tables.completions).where(old)).rowcount


def remember(tx: sa.Connection, answered: Iterable[AnsweredCompletion]) -> None:
    """Store that these completions may be rated; of two with one id, the later one."""
    last = {completion.id: completion for completion in answered}
    rows = [
        {"id": completion.id, "served_name": completion.served_name, "at": completion.at} | asdict(completion.cell)
        for completion in last.values()
    ]
    upsert(tx, answer_tables.completions, ("id",), *rows)


def feedback_tallies(tx: sa.Connection, rollout_id: str) -> dict[Cell, Tally]:
    """Return the ratings of a rollout's answers, summed by cell."""
    table = answer_tables.feedback
    sums = sa.func.count(), sa.func.sum(table.c.score), sa.func.sum(table.c.score * table.c.score)
    columns = table.c.step, table.c.side, table.c.replica
    query = sa.select(*columns, *sums).where(table.c.rollout_id == rollout_id).group_by(*columns)
    tallies = {}
    for step, side, replica, count, score_sum, square_sum in tx.execute(query):
        cell = Cell(rollout_id=rollout_id, step=step, side=Side(side), replica=replica)
        tallies[cell] = Tally(feedbacks=count, feedback_sum=score_sum, feedback_square_sum=square_sum)
    return tallies


def _cell_of(row: sa.RowMapping) -> Cell:
    return Cell(**({name: row[name] for name in _CELL} | {"side": Side(row["side"])}))
