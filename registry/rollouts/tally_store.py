"""Tallies of rollouts in the database, as each gateway process last reported them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, Final

import sqlalchemy as sa

from registry.rollouts import answer_tables
from registry.rollouts.answered_completion import AnsweredCompletion, remember
from registry.rollouts.feedback import feedback_tallies
from registry.rollouts.tally import Cell, Side, Tally
from registry.transactions import Transactions, upsert

_KEYS: Final = ("gateway_id", "rollout_id", "step", "side", "replica")
_BUCKETED: Final = ("ttft", "tpot", "ttft_cached", "tpot_cached")


class TallyStore:
    """Stores the tallies of each gateway process; the judge reads the sums."""

    def __init__(self, transactions: Transactions) -> None:
        self._tx = transactions

    def put(self, gateway_id: str, tallies: Mapping[Cell, Tally], answered: Iterable[AnsweredCompletion] = ()) -> None:
        """Store what *gateway_id* has counted since it began, and that the *answered* completions may be rated.

        Storing the same sums again changes nothing. A process that starts anew has a new id, so the last sums of a
        killed process stay.
        """
        with self._tx.write() as tx:
            now = self._tx.now()
            rows = [
                asdict(cell) | {"gateway_id": gateway_id, "tally": _stored(tally), "at": now}
                for cell, tally in tallies.items()
            ]
            upsert(tx, answer_tables.observations, _KEYS, *rows)
            remember(tx, answered)

    def of_rollout(self, rollout_id: str) -> dict[Cell, Tally]:
        """Return the sums over all gateways for this rollout, with its feedback."""
        table = answer_tables.observations
        query = sa.select(table.c.step, table.c.side, table.c.replica, table.c.tally)
        query = query.where(table.c.rollout_id == rollout_id)
        sums: dict[Cell, Tally] = {}
        with self._tx.read() as tx:
            for step, side, replica, stored in tx.execute(query.order_by(table.c.gateway_id)):
                cell = Cell(rollout_id=rollout_id, step=step, side=Side(side), replica=replica)
                sums[cell] = sums.get(cell, Tally()).plus(_tally_of(stored))
            for cell, tally in feedback_tallies(tx, rollout_id).items():
                sums[cell] = sums.get(cell, Tally()).plus(tally)
        return sums


def _stored(tally: Tally) -> dict[str, Any]:
    """Return the fields that are not zero; JSON has no integer keys, so buckets become strings."""
    fields = {name: value for name, value in asdict(tally).items() if value}
    return fields | {
        name: {str(bucket): count for bucket, count in fields[name].items()} for name in _BUCKETED if name in fields
    }


def _tally_of(stored: Mapping[str, Any]) -> Tally:
    buckets = {
        name: {int(bucket): count for bucket, count in stored[name].items()} for name in _BUCKETED if name in stored
    }
    return Tally(**(dict(stored) | buckets))
