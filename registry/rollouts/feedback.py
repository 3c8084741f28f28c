"""Ratings of answers by people, joined to the revision that answered."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import sqlalchemy as sa

from registry import tables
from registry.adapters import MOST_DIGITS, find_adapter, find_revision
from registry.errors import NotFound
from registry.rollouts import answer_tables
from registry.rollouts.answered_completion import answers_beyond_bound, cell_in, columns_of
from registry.rollouts.tally import Cell, Side, Tally
from registry.transactions import Transactions, upsert
from registry.types import LOCAL_TENANT

_GOOD: Final = 0.5
"""Ratings from this score on count as good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """A rating of one answer."""

    completion_id: str
    tenant: str
    served_name: str
    """The revision or base model that answered."""
    replica: str
    cell: Cell | None
    score: float
    """0 is bad, 1 is good."""
    comment: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingSum:
    """The ratings of one revision or base model."""

    served_name: str
    ratings: int
    good: int
    mean: float
    last_at: float


class FeedbackStore:
    """Stores one rating for each completion of a tenant; a later one replaces it."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions

    def rate(
        self,
        completion_id: str,
        score: float,
        comment: str,
        tenant: str = LOCAL_TENANT,
        *,
        chat: Mapping[str, Any] | None = None,
    ) -> Feedback:
        """Store a rating in place of an earlier one. `NotFound` unless *tenant* got this answer not too long ago.

        *chat* are `messages`, which end with the answer, and `tools`, as a line of a training file has them.
        """
        table = answer_tables.completions
        query = sa.select(table).where(table.c.tenant == tenant, table.c.id == completion_id)
        with self._tx.write() as tx:
            row = tx.execute(query).mappings().one_or_none()
            if row is None:
                raise NotFound(
                    f"there is no completion {completion_id!r} to rate: only its receiver may rate an answer, and for "
                    f"a limited time"
                )
            rated = Feedback(
                completion_id=completion_id,
                tenant=tenant,
                served_name=row["served_name"],
                replica=row["replica"],
                cell=cell_in(row),
                score=score,
                comment=comment,
                at=self._tx.now(),
            )
            values = {name: value for name, value in asdict(rated).items() if name != "cell"}
            values |= columns_of(rated.cell) | {"adapter": adapter_of(rated.served_name), "chat": chat}
            upsert(tx, answer_tables.feedback, ("tenant", "completion_id"), values)
            return rated

    def list(self, adapter: str, limit: int = 100) -> builtins.list[Feedback]:
        """Return the ratings of all revisions of *adapter*, newest first. Raises `NotFound`."""
        with self._tx.read() as tx:
            find_adapter(tx, adapter)
            return _newest(tx, answer_tables.feedback.c.adapter == adapter, limit)

    def of_served_name(self, served_name: str, limit: int = 100) -> builtins.list[Feedback]:
        """Return the ratings of one revision or base model, newest first. Raises `NotFound`."""
        with self._tx.read() as tx:
            _check_known(tx, served_name)
            return _newest(tx, answer_tables.feedback.c.served_name == served_name, limit)

    def rated_chats(self, model: str, tenant: str | None = None) -> builtins.list[Mapping[str, Any]]:
        """Return the chats that came with ratings of *model*, an adapter, a revision or a base model, oldest first.

        Each has a `label`, true for a good answer. With *tenant*, its own ratings alone; else `NotFound` for a *model*
        that does not exist.
        """
        table = answer_tables.feedback
        query = sa.select(table.c.chat, table.c.score).where(
            sa.or_(table.c.adapter == model, table.c.served_name == model), table.c.chat.is_not(None)
        )
        if tenant is not None:
            query = query.where(table.c.tenant == tenant)
        with self._tx.read() as tx:
            if tenant is None:
                _check_known(tx, model)
            found = tx.execute(query.order_by(table.c.at, table.c.seq))
            return [{**chat, "label": score >= _GOOD} for chat, score in found]

    def forget_chats(self, older_than_s: float) -> int:
        """Remove the chats of older ratings, and keep the ratings; return how many."""
        table = answer_tables.feedback
        old = table.c.chat.is_not(None), table.c.at < self._tx.now() - older_than_s
        with self._tx.read() as tx:
            if not tx.execute(sa.select(sa.exists().where(*old))).scalar_one():
                return 0
        with self._tx.write() as tx:
            return tx.execute(sa.update(table).where(*old).values(chat=None)).rowcount

    def sums(self, model: str | None = None) -> builtins.list[RatingSum]:
        """Return the sums by revision and base model, with *model* those of one adapter or base model.

        Raises `NotFound` for a *model* that does not exist.
        """
        table = answer_tables.feedback
        good = sa.func.sum(sa.case((table.c.score >= _GOOD, 1), else_=0))
        columns = sa.func.count(), good, sa.func.avg(table.c.score), sa.func.max(table.c.at)
        query = sa.select(table.c.served_name, *columns).group_by(table.c.served_name).order_by(table.c.served_name)
        if model is not None:
            query = query.where(table.c.adapter == model)
        with self._tx.read() as tx:
            if model is not None:
                _check_known(tx, model)
            return [
                RatingSum(served_name=name, ratings=count, good=int(good), mean=mean, last_at=last)
                for name, count, good, mean, last in tx.execute(query)
            ]

    def expire(self, older_than_s: float, most: int) -> int:
        """Delete answers that may no longer be rated, and ratings beyond the bound; return how many answers.

        Answers may be rated for *older_than_s*. Each tenant keeps its newest *most* answers to rate, evidence and
        others apart, and the newest *most* ratings, besides those of rollouts that may still be judged.
        """
        since = self._tx.now() - older_than_s
        deleted = 0
        with self._tx.read() as tx:
            too_many = [*answers_beyond_bound(tx, most), *_ratings_beyond_bound(tx, most, since)]
        # Short transactions: on SQLite everybody who writes waits for each of them.
        for condition in (
            sa.delete(answer_tables.completions).where(answer_tables.completions.c.at < since),
            *too_many,
        ):
            with self._tx.write() as tx:
                count = tx.execute(condition).rowcount
                deleted += count if condition.table is answer_tables.completions else 0
        return deleted


def adapter_of(served_name: str) -> str:
    """Return the adapter of a revision's served name, and a base model's name as it is."""
    return served_name.rpartition("@")[0] or served_name


def _newest(tx: sa.Connection, condition: sa.ColumnElement[bool], limit: int) -> builtins.list[Feedback]:
    table = answer_tables.feedback
    query = sa.select(table).where(condition).order_by(table.c.at.desc(), table.c.seq.desc()).limit(limit)
    return [
        Feedback(
            completion_id=row["completion_id"],
            tenant=row["tenant"],
            served_name=row["served_name"],
            replica=row["replica"],
            cell=cell_in(row),
            score=row["score"],
            comment=row["comment"],
            at=row["at"],
        )
        for row in tx.execute(query).mappings()
    ]


def _ratings_beyond_bound(tx: sa.Connection, most: int, since: float) -> builtins.list[sa.Delete]:
    table, rollouts = answer_tables.feedback, tables.rollouts
    judged = sa.select(rollouts.c.id).where(sa.or_(rollouts.c.finished_at.is_(None), rollouts.c.finished_at > since))
    deletes = []
    for tenant, count in tx.execute(sa.select(table.c.tenant, sa.func.count()).group_by(table.c.tenant)):
        if count > most:
            kind = sa.and_(
                table.c.tenant == tenant, sa.or_(table.c.rollout_id.is_(None), table.c.rollout_id.not_in(judged))
            )
            newest = sa.select(table.c.seq).where(table.c.tenant == tenant).order_by(table.c.seq.desc())
            last = tx.execute(newest.offset(most).limit(1)).scalar_one()
            deletes.append(sa.delete(table).where(kind, table.c.seq <= last))
    return deletes


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


def _check_known(tx: sa.Connection, name: str) -> None:
    """Raise `NotFound` unless *name* is that of a base model, an adapter, one of its revisions, or a rated name."""
    rated, bases = answer_tables.feedback, tables.bases.c.name
    known = sa.union_all(
        sa.select(sa.literal(1)).where(sa.exists().where(bases == name)),
        sa.select(sa.literal(1)).where(sa.exists().where(rated.c.served_name == name)),
    )
    if tx.execute(known).first() is not None:
        return
    adapter, at, number = name.partition("@")
    find_adapter(tx, adapter)
    if at and number.isdecimal():
        find_revision(tx, adapter, int(number[:MOST_DIGITS]))
    elif at:
        raise NotFound(f"there is no revision {name!r}; a revision is named {adapter}@N")
